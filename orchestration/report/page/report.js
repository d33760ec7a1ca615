// Draws the charts when they come into view, in the colours of the page's theme, and switches the coin that a section shows.
// Reads only the JSON beside it; asks no network.
(() => {
  "use strict";
  const specifications = JSON.parse(document.getElementById("chart-data").textContent);
  const clone = (value) => JSON.parse(JSON.stringify(value));

  // "@accent/0.2" -> the theme's accent with that opacity; only where plotly expects a colour.
  const isColour = (key) => /color(scale)?$/i.test(key);
  const resolve = (value, theme, colour = false) => {
    if (Array.isArray(value)) return value.map((item) => resolve(item, theme, colour));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, resolve(v, theme, isColour(k))]));
    }
    if (!colour || typeof value !== "string" || value[0] !== "@") return value;
    const [name, opacity] = value.slice(1).split("/");
    const hex = theme.getPropertyValue("--" + name).trim();
    if (!opacity) return hex;
    const part = (at) => parseInt(hex.slice(at, at + 2), 16);
    return `rgba(${part(1)},${part(3)},${part(5)},${opacity})`;
  };

  // Paper is narrower than the screen, and a chart cannot follow by itself.
  const widthOnPaper = (element) => (element.closest(".grid") ? 330 : element.closest(".boards") ? 220 : 660);

  const draw = (element, paper = false) => {
    const specification = specifications[element.dataset.chart];
    if (!specification || !window.Plotly) return;
    const theme = getComputedStyle(document.documentElement);
    const axis = { gridcolor: "@rule", linecolor: "@rule", zeroline: false, automargin: true, fixedrange: true };
    const chart = clone(specification);
    const layout = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode: false, hovermode: "closest",
      font: { color: "@text", size: 11, family: "system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif" },
      hoverlabel: { bgcolor: "@surface", bordercolor: "@rule", font: { color: "@text" } },
      ...chart.layout,
      xaxis: { ...axis, ...chart.layout.xaxis }, yaxis: { ...axis, ...chart.layout.yaxis },
    };
    if (paper) Object.assign(layout, { autosize: false, width: widthOnPaper(element) });
    // newPlot, not react: a changed theme changes every colour.
    window.Plotly.newPlot(element, resolve(chart.data, theme), resolve(layout, theme), {
      displayModeBar: false, displaylogo: false, responsive: !paper, showSendToCloud: false,
    });
    element.dataset.drawn = "yes";
  };

  const charts = [...document.querySelectorAll("[data-chart]")];
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      watcher.unobserve(entry.target);
      draw(entry.target);
    }
  }, { rootMargin: "500px" });
  const redraw = () => charts.filter((chart) => chart.dataset.drawn).forEach((chart) => draw(chart));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  addEventListener("beforeprint", () => {
    document.documentElement.classList.add("paper");
    charts.filter((chart) => chart.offsetParent).forEach((chart) => draw(chart, true));
  });
  addEventListener("afterprint", () => {
    document.documentElement.classList.remove("paper");
    redraw();
  });

  // One coin at a time; the choice is shared by the sections. Without this script every coin is shown.
  const pickers = [...document.querySelectorAll("select[data-picks]")];
  const show = (asset) => {
    for (const picker of pickers) {
      const known = [...picker.options].some((option) => option.value === asset);
      if (known) picker.value = asset;
      for (const part of document.querySelectorAll(`[data-choice="${picker.dataset.picks}"]`)) {
        part.hidden = part.dataset.asset !== picker.value;
      }
    }
    dispatchEvent(new Event("resize"));
  };
  pickers.forEach((picker) => picker.addEventListener("change", () => show(picker.value)));
  if (pickers.length) show(pickers[0].value);
  charts.forEach((chart) => watcher.observe(chart));
})();
