"use strict";
// Tables: sort by a button in each heading, filter, and pages of many rows. Without this script every row stands there.
(() => {
  const PAGE = 100;
  const make = (name, text, attributes) => {
    const made = document.createElement(name);
    made.textContent = text;
    for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
    return made;
  };
  const key = (row, column) => {
    const cell = row.cells[column];
    const number = cell.dataset.value;
    return number === undefined || number === "" ? cell.textContent : Number(number);
  };
  const order = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a === typeof b) return a.localeCompare(b, "en", { numeric: true });
    return typeof a === "number" ? -1 : 1;
  };
  for (const table of document.querySelectorAll("table.decision")) {
    const body = table.tBodies[0];
    const all = [...body.rows];
    let rows = all.slice();
    let place = 0;
    const tools = make("div", "", { class: "tools" });
    const identity = table.id + "-filter";
    const filter = make("input", "", { type: "search", id: identity, autocomplete: "off" });
    const said = make("span", "", { role: "status", "aria-live": "polite" });
    const back = make("button", "Previous", { type: "button" });
    const on = make("button", "Next", { type: "button" });
    tools.append(make("label", "Filter rows", { for: identity }), filter, said, back, on);
    table.parentElement.before(tools);
    const show = (whole) => {
      const few = whole ? rows : rows.slice(place, place + PAGE);
      body.replaceChildren(...few);
      const paged = rows.length > PAGE;
      back.hidden = on.hidden = !paged;
      back.disabled = place === 0;
      on.disabled = place + PAGE >= rows.length;
      const of = rows.length === all.length ? `${all.length} rows` : `${rows.length} of ${all.length} rows`;
      said.textContent = paged ? `${of}; ${place + 1} to ${place + few.length} shown` : of;
    };
    const turn = (step) => { place = Math.max(0, Math.min(rows.length - 1, place + step)); show(); };
    back.addEventListener("click", () => turn(-PAGE));
    on.addEventListener("click", () => turn(PAGE));
    const heads = [...table.tHead.rows[0].cells];
    let sorted = null;
    const arrange = () => {
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      rows = all.filter((row) => {
        const text = row.textContent.toLowerCase();
        return words.every((word) => text.includes(word));
      });
      if (sorted) {
        const keyed = rows.map((row) => [key(row, sorted.column), row]);
        keyed.sort((a, b) => sorted.way * order(a[0], b[0]));
        rows = keyed.map((one) => one[1]);
      }
      place = 0;
      show();
    };
    filter.addEventListener("input", arrange);
    heads.forEach((head, column) => {
      const button = make("button", head.textContent, { type: "button" });
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const way = sorted && sorted.column === column ? -sorted.way : 1;
        sorted = { column, way };
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
        arrange();
      });
    });
    window.addEventListener("beforeprint", () => show(true));
    window.addEventListener("afterprint", () => show());
    show();
  }
})();
// Pictures: plotly.js takes the place of the drawn picture, which a button brings back and paper shows.
(() => {
  if (!window.Plotly) return;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const look = () => {
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--ink").trim(), line = style.getPropertyValue("--line").trim();
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, size: 13 },
      axis: { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true },
      legend: { orientation: "h", y: -0.25 }, margin: { t: 30, r: 20 },
    };
  };
  const laid = (given) => {
    const { axis, ...rest } = look();
    return { ...rest, ...given, xaxis: { ...axis, ...given.xaxis }, yaxis: { ...axis, ...given.yaxis } };
  };
  for (const block of document.querySelectorAll("script[type='application/json'][data-for]")) {
    const figure = document.getElementById(block.dataset.for);
    const picture = figure.querySelector("img");
    const charts = JSON.parse(block.textContent).map((chart) => {
      const box = document.createElement("div");
      box.className = "chart";
      box.setAttribute("role", "img");
      box.setAttribute("aria-label", picture.alt);
      picture.before(box);
      Plotly.newPlot(box, chart.data, laid(chart.layout), { responsive: true, displaylogo: false });
      dark.addEventListener("change", () => Plotly.relayout(box, laid(chart.layout)));
      return box;
    });
    picture.hidden = true;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "switch";
    button.textContent = "Show the drawn picture";
    button.addEventListener("click", () => {
      picture.hidden = !picture.hidden;
      for (const box of charts) box.hidden = !picture.hidden;
      button.textContent = picture.hidden ? "Show the drawn picture" : "Show the interactive picture";
    });
    figure.append(button);
  }
})();
