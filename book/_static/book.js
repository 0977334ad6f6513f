/* What every page does besides showing text: citation cards, and boxes that scroll by keyboard. */
(() => {
  "use strict";

  /* Citation cards.
   *
   * A citation leads to its entry in the page's references. Pointing at it, or reaching it with
   * Tab, shows that entry in a card, so that the reader keeps the place. On a touch screen the
   * first tap shows the card and its "To the references" leads on. Escape closes it.
   */

  const GAP = 8; // pixels between a citation and its card, and between the card and the screen's edge
  const PATIENCE = 150; // milliseconds that the pointer may take from the citation to the card

  const card = document.createElement("div");
  card.className = "citation-card";
  card.id = "citation-card";
  card.setAttribute("role", "tooltip");
  card.hidden = true;
  let shownFor = null;
  let closing = 0;
  let touched = false;

  function entryOf(citation) {
    const id = decodeURIComponent(citation.hash.slice(1));
    const entry = citation.pathname === location.pathname && document.getElementById(id);
    return entry ? entry.querySelector("p") || entry : null;
  }

  function fill(citation, forTouch) {
    const entry = entryOf(citation);
    if (entry) {
      card.replaceChildren(...entry.cloneNode(true).childNodes);
      card.querySelectorAll("[id]").forEach((element) => element.removeAttribute("id"));
    } else {
      card.replaceChildren(citation.dataset.reference);
    }
    if (forTouch) {
      const link = document.createElement("a");
      link.href = citation.href;
      link.textContent = "To the references";
      link.className = "to-references";
      card.append(link);
    }
  }

  function place(citation) {
    const lines = citation.getClientRects();
    const line = lines[lines.length - 1];
    const width = document.documentElement.clientWidth;
    const left = Math.min(Math.max(line.left, GAP), width - card.offsetWidth - GAP);
    const above = line.top - card.offsetHeight - GAP;
    const top = above > GAP ? above : line.bottom + GAP;
    card.style.left = `${left + scrollX}px`;
    card.style.top = `${top + scrollY}px`;
  }

  function show(citation, forTouch = false) {
    clearTimeout(closing);
    if (shownFor === citation) return;
    hide();
    fill(citation, forTouch);
    card.hidden = false;
    place(citation);
    citation.setAttribute("aria-describedby", card.id);
    shownFor = citation;
  }

  function hide() {
    clearTimeout(closing);
    if (!shownFor) return;
    shownFor.removeAttribute("aria-describedby");
    shownFor = null;
    card.hidden = true;
  }

  function hideSoon() {
    clearTimeout(closing);
    closing = setTimeout(hide, PATIENCE);
  }

  function prepareCitations() {
    const citations = document.querySelectorAll(".bibtex-citation a.reference[href*='#']");
    if (!citations.length) return;
    document.body.append(card);
    for (const citation of citations) {
      // The browser's own tooltip would cover the card and is out of reach of keyboard and touch.
      citation.dataset.reference = citation.title;
      citation.removeAttribute("title");
      citation.addEventListener("pointerenter", (event) => {
        if (event.pointerType === "mouse") show(citation);
      });
      citation.addEventListener("pointerleave", (event) => {
        if (event.pointerType === "mouse") hideSoon();
      });
      citation.addEventListener("pointerdown", (event) => {
        touched = event.pointerType !== "mouse";
      });
      citation.addEventListener("focus", () => {
        if (!touched) show(citation);
      });
      citation.addEventListener("blur", () => {
        if (!card.matches(":hover")) hideSoon();
      });
      citation.addEventListener("click", (event) => {
        if (touched) {
          event.preventDefault();
          if (shownFor === citation) hide();
          else show(citation, true);
        } else {
          hide();
        }
        touched = false;
      });
    }
    card.addEventListener("pointerenter", () => clearTimeout(closing));
    card.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse") hideSoon();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape") hide();
    });
    document.addEventListener("pointerdown", (event) => {
      if (shownFor && !card.contains(event.target) && !shownFor.contains(event.target)) hide();
    });
    addEventListener("resize", hide);
  }

  /* Boxes that scroll sideways: a reader without a mouse must be able to stop at them, and anyone
   * should see that there is more. */

  const BOXES = [
    ".figure-box",
    ".chart",
    ".pst-scrollable-table-container",
    ".casebook-ledger",
    "div.cell_output .output",
    "div.highlight pre",
    "div.math",
  ].join(",");
  const NAMES = [
    ["table", "Table"],
    ["svg", "Figure"],
    ["mjx-container", "Formula"],
    ["*", "Text"],
  ];

  function noteOverflow(box) {
    const overflows = box.scrollWidth > box.clientWidth + 1;
    box.classList.toggle("scrolls", overflows);
    if (overflows) {
      box.tabIndex = 0;
      if (!box.hasAttribute("aria-label")) {
        const [, name] = NAMES.find(([what]) => what === "*" || box.querySelector(what));
        box.setAttribute("role", "group");
        box.setAttribute("aria-label", `${name}, scrolls sideways`);
        box.dataset.named = "";
      }
    } else if (box.tabIndex === 0) {
      box.removeAttribute("tabindex");
      if ("named" in box.dataset) {
        box.removeAttribute("role");
        box.removeAttribute("aria-label");
        delete box.dataset.named;
      }
    }
  }

  function prepareBoxes() {
    const observer = new ResizeObserver((entries) => {
      for (const { target } of entries) {
        const box = target.closest(BOXES); // null for a picture that has left its box
        if (box) noteOverflow(box);
      }
    });
    for (const box of document.querySelectorAll(BOXES)) {
      observer.observe(box);
      for (const child of box.children) observer.observe(child);
    }
  }

  prepareCitations();
  prepareBoxes();
})();
