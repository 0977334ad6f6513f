/* Brings the page's Vega-Lite charts to life.
 *
 * The page comes with a still picture of each chart and its specification. When a chart comes near
 * the screen, Vega (one script, from this site) is loaded once, and the live chart takes the place
 * of its picture. Without JavaScript, and on paper, the pictures remain.
 */
(() => {
  "use strict";

  const VEGA = new URL("vega/vega.min.js", document.currentScript.src).href;
  const NEAR = "600px"; // how far from the screen a chart is when its drawing begins
  const NARROWEST = 140; // pixels: the least width of a plot between its axes

  let loading = null;

  function vega() {
    loading ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = VEGA;
      script.onload = () => resolve(window.vegaEmbed);
      script.onerror = () => reject(new Error(`cannot load ${VEGA}`));
      document.head.append(script);
    });
    return loading;
  }

  async function draw(chart) {
    const { spec, options } = JSON.parse(chart.querySelector("script").textContent);
    const stage = document.createElement("div");
    stage.hidden = true;
    chart.append(stage);
    try {
      const embed = await vega();
      const { view } = await embed(stage, spec, options);
      chart.querySelector(".chart-picture").remove();
      stage.hidden = false;
      if (chart.dataset.flexes === "true") await fit(chart, stage, view);
      chart.dataset.state = "live";
    } catch (error) {
      // The still picture stays: the reader loses the interaction, not the figure.
      stage.remove();
      chart.dataset.state = "failed";
      console.error(`the chart ${chart.id} cannot be drawn:`, error);
    }
  }

  /* Keep the plot as wide as it was made, or as narrow as the column requires. */
  async function fit(chart, stage, view) {
    const wished = view.width();
    async function adjust() {
      const around = stage.querySelector("svg").getBoundingClientRect().width - view.width();
      const width = Math.max(NARROWEST, Math.min(wished, Math.floor(chart.clientWidth - around)));
      if (width !== view.width()) await view.width(width).runAsync();
    }
    await adjust();
    new ResizeObserver(adjust).observe(chart);
  }

  const observer = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        observer.unobserve(target);
        draw(target);
      }
    },
    { rootMargin: NEAR },
  );
  document.querySelectorAll(".chart").forEach((chart) => observer.observe(chart));
})();
