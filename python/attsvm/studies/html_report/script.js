"use strict";
{
  // On a touch screen a drag scrolls the page: there the buttons over a figure zoom.
  const touch = matchMedia("(pointer: coarse)").matches;
  const options = { responsive: true, displaylogo: false, plotlyServerURL: "",
                    displayModeBar: touch ? true : "hover" };
  const printed = 640;

  const draw = (within) => {
    for (const place of within.querySelectorAll(".drawing:empty")) {
      const { data, layout } = JSON.parse(document.getElementById(`${place.id}-data`).textContent);
      Plotly.newPlot(place, data, { ...layout, dragmode: touch ? false : "zoom" }, options);
    }
  };
  const drawn = () => document.querySelectorAll(".drawing.js-plotly-plot");

  for (const panel of document.querySelectorAll("details")) {
    panel.addEventListener("toggle", () => { if (panel.open) draw(panel); });
  }
  for (const place of document.querySelectorAll("figure")) {
    if (!place.closest("details:not([open])")) draw(place);
  }

  addEventListener("beforeprint", () => {
    for (const panel of document.querySelectorAll("details")) panel.open = true;
    draw(document);
    for (const place of drawn()) Plotly.relayout(place, { width: printed });
  });
  addEventListener("afterprint", () => {
    for (const place of drawn()) Plotly.relayout(place, { width: null, autosize: true });
  });

  const compare = (a, b) => {
    if (a === "" || b === "") return (a === "") - (b === "");  // no number goes last
    return isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const headings = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    headings.forEach((heading, column) => {
      heading.querySelector("button").addEventListener("click", () => {
        const down = heading.getAttribute("aria-sort") === "ascending";
        const sign = down ? -1 : 1;
        const key = (row) => row.cells[column].dataset.key;
        const rows = [...body.rows].sort((a, b) =>
          key(a) === "" || key(b) === "" ? compare(key(a), key(b)) : sign * compare(key(a), key(b)));
        for (const other of headings) other.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", down ? "descending" : "ascending");
        body.append(...rows);
      });
    });
  }

  for (const button of document.querySelectorAll("[data-copy]")) {
    const block = document.getElementById(button.dataset.copy);
    button.addEventListener("click", async () => {
      getSelection().selectAllChildren(block);
      try {
        await navigator.clipboard.writeText(block.textContent);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Selected";  // copying is not allowed: the reader does it
      }
    });
  }
}
