"use strict";
// Sorting and searching tables, folding trees. Values are only ever read and moved, never made into markup.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const search = table.parentElement.previousElementSibling;
  const isTree = table.classList.contains("tree");
  let wanted = "";

  const folded = new Set();
  function show() {
    let shut = Infinity; // the depth below which rows are folded away
    const kept = new Set();
    if (isTree && wanted) {
      // With each row that is found, those above it.
      const above = [];
      for (const row of rows) {
        above.length = Number(row.dataset.depth) - 1;
        above.push(row);
        if (row.textContent.toLowerCase().includes(wanted)) above.forEach((one) => kept.add(one));
      }
    }
    for (const row of rows) {
      const depth = Number(row.dataset.depth || 0);
      if (depth <= shut) shut = Infinity;
      const found = isTree && wanted ? kept.has(row) : row.textContent.toLowerCase().includes(wanted);
      row.hidden = !found || (!wanted && depth > shut);
      if (folded.has(row) && depth < shut) shut = depth;
    }
  }

  if (search && search.type === "search") {
    search.addEventListener("input", () => { wanted = search.value.trim().toLowerCase(); show(); });
  }

  if (isTree) {
    for (const row of rows) {
      const cell = row.cells[0];
      for (let level = 1; level < Number(row.dataset.depth || 1); level++) {
        cell.prepend(Object.assign(document.createElement("span"), { className: "gap" }));
      }
      const text = cell.lastChild;
      if ("folds" in row.dataset) {
        const button = Object.assign(document.createElement("button"), { className: "fold", type: "button", textContent: "▾" });
        button.setAttribute("aria-expanded", "true");
        button.setAttribute("aria-label", "fold");
        button.addEventListener("click", () => {
          folded.has(row) ? folded.delete(row) : folded.add(row);
          button.textContent = folded.has(row) ? "▸" : "▾";
          button.setAttribute("aria-expanded", String(!folded.has(row)));
          show();
        });
        cell.insertBefore(button, text);
      } else {
        cell.insertBefore(Object.assign(document.createElement("span"), { className: "gap" }), text);
      }
    }
    continue;
  }

  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, at) => {
    head.tabIndex = 0;
    const number = (row) => ("n" in row.cells[at].dataset ? Number(row.cells[at].dataset.n) : -Infinity);
    function sort() {
      // Numbers the largest first, texts from A on; the other way round the second time.
      const numeric = head.classList.contains("n");
      const before = head.getAttribute("aria-sort");
      const ascending = before ? before === "descending" : !numeric;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const sign = ascending ? 1 : -1;
      const order = numeric
        ? (a, b) => { const [x, y] = [number(a), number(b)]; return x === y ? 0 : sign * (x < y ? -1 : 1); }
        : (a, b) => sign * a.cells[at].textContent.localeCompare(b.cells[at].textContent, undefined, { numeric: true });
      body.append(...rows.sort(order));
    }
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(); } });
  });
}
