// Draws the figures of the page and redraws those that depend on a choice when it changes.
(() => {
  "use strict";
  const page = JSON.parse(document.getElementById("page").textContent);
  // what a report says stays in it: no button that uploads a figure
  const config = {
    showSendToCloud: false,
    plotlyServerURL: "",
    typesetMath: false,
    displaylogo: false,
    responsive: true,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"],
  };
  const choice = {};

  // "latency_ms/{level}" with the present choices filled in, looked up
  const look = (template) => page.tables[template.replace(/\{(\w+)\}/g, (_, name) => choice[name])];

  // several templates are the columns of rows
  const value = (binding) => {
    if (typeof binding === "string") return look(binding);
    const columns = binding.map(look);
    return columns[0].map((_, row) => columns.map((column) => column[row]));
  };

  const bind = (figure, path, binding) => {
    const keys = path.split(".");
    const last = keys.pop();
    const place = keys.reduce((at, key) => at[key], figure);
    place[last] = value(binding);
  };

  const draw = (figure) => {
    for (const [path, binding] of Object.entries(figure.bindings)) bind(figure, path, binding);
    Plotly.react("figure-" + figure.name, figure.data, figure.layout, config);
  };

  const mark = () => {
    document.getElementById("headline").textContent = look(page.headline);
    for (const row of document.querySelectorAll("[data-level]"))
      row.classList.toggle("chosen", row.dataset.level === choice.level);
  };

  const depends = (figure, name) => JSON.stringify(figure.bindings).includes("{" + name + "}");

  const choose = (select) => {
    choice[select.name] = select.value;
    mark();
    page.figures.filter((figure) => depends(figure, select.name)).forEach(draw);
  };

  const selects = [...document.querySelectorAll("select")];
  for (const select of selects) {
    choice[select.name] = select.value;
    select.addEventListener("change", () => choose(select));
  }
  for (const row of document.querySelectorAll("[data-level]"))
    row.addEventListener("click", () => {
      const select = selects.find((each) => each.name === "level");
      select.value = row.dataset.level;
      choose(select);
    });
  mark();
  page.figures.forEach(draw);
})();
