"use strict";
// The page reads the same without this: it shows tooltips at once, and a curve's value under the pointer.
const tip = document.getElementById("tip");
for (const token of document.querySelectorAll(".tokens .t")) {
  token.dataset.tip = token.title;
  token.removeAttribute("title");
  token.addEventListener("pointerenter", () => {
    tip.textContent = token.dataset.tip;
    tip.hidden = false;
    const box = token.getBoundingClientRect();
    const left = Math.min(box.left, innerWidth - tip.offsetWidth - 8);
    const below = box.bottom + tip.offsetHeight + 12 < innerHeight;
    tip.style.left = Math.max(8, left) + "px";
    tip.style.top = (below ? box.bottom + 6 : box.top - tip.offsetHeight - 6) + "px";
  });
  token.addEventListener("pointerleave", () => { tip.hidden = true; });
}
for (const svg of document.querySelectorAll("svg[data-readings]")) {
  const readings = JSON.parse(svg.dataset.readings);
  const cross = svg.querySelector(".cross");
  const readout = svg.closest("figure").querySelector(".readout");
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
    const near = readings.reduce((a, b) => Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a);
    cross.setAttribute("x1", near[0]);
    cross.setAttribute("x2", near[0]);
    cross.setAttribute("visibility", "visible");
    readout.textContent = near[1];
  });
  svg.addEventListener("pointerleave", () => {
    cross.setAttribute("visibility", "hidden");
    readout.textContent = readout.dataset.rest;
  });
}
