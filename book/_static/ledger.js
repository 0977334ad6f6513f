/* Makes the ledger's table sortable and filterable. Without JavaScript it is a plain table. */
(() => {
  "use strict";

  const table = document.querySelector("table.ledger");
  if (!table || !table.tBodies.length) return;
  const body = table.tBodies[0];
  const rows = [...body.rows];

  /* Sorting: a click on a heading sorts by it, a second click the other way round. */

  function keyOf(row, column) {
    const cell = row.cells[column];
    const number = Number.parseFloat(cell.dataset.sort);
    return Number.isNaN(number) ? cell.textContent.trim().toLowerCase() : number;
  }

  function compare(a, b) {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a === "number") return -1; // numbers before words
    if (typeof b === "number") return 1;
    return a.localeCompare(b);
  }

  function sortBy(heading) {
    const ascending = heading.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const column = heading.cellIndex;
    const sign = ascending ? 1 : -1;
    const sorted = [...rows].sort((a, b) => sign * compare(keyOf(a, column), keyOf(b, column)));
    body.append(...sorted);
  }

  for (const heading of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sortBy(heading));
    heading.replaceChildren(button);
  }

  /* Filtering: by any word, by verdict, by part of the book. */

  const controls = document.createElement("form");
  controls.className = "ledger-controls";
  controls.setAttribute("role", "search");
  controls.setAttribute("aria-label", "Filter the ledger");
  controls.addEventListener("submit", (event) => event.preventDefault());

  function addControl(name, control) {
    const label = document.createElement("label");
    label.append(`${name} `, control);
    controls.append(label);
    control.addEventListener("input", filter);
    return control;
  }

  function choice(name, attribute, everything) {
    const values = [...new Set(rows.map((row) => row.dataset[attribute]))];
    const select = document.createElement("select");
    select.append(new Option(everything, ""), ...values.map((value) => new Option(value, value)));
    return addControl(name, select);
  }

  const words = addControl("Search", document.createElement("input"));
  words.type = "search";
  const verdict = choice("Verdict", "verdict", "all verdicts");
  const part = choice("Part", "part", "all parts");
  const count = document.createElement("output");
  controls.append(count);

  function filter() {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !(
        wanted.every((word) => text.includes(word)) &&
        (!verdict.value || row.dataset.verdict === verdict.value) &&
        (!part.value || row.dataset.part === part.value)
      );
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${rows.length} claims`;
  }

  const box = table.closest(".casebook-ledger") || table;
  box.before(controls);
  filter();
})();
