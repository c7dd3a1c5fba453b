// Tables can be sorted and filtered; figures are drawn when they come into view; a link to a run opens it.
const style = document.createElement("style");
style.textContent = atob(datatablesStyle);
document.head.prepend(style);
const source = Uint8Array.from(atob(datatables), (letter) => letter.charCodeAt(0));
const { default: DataTable } = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));

for (const table of document.querySelectorAll("table")) {
  new DataTable(table, {
    order: [],
    pageLength: 25,
    paging: table.tBodies[0].rows.length > 25,
    autoWidth: false,
    columnControl: [{ target: 0, content: ["order", ["search", "spacer", "searchList"]] }],
    ordering: { indicators: false },
    layout: { topStart: "info", topEnd: "search", bottomStart: "pageLength", bottomEnd: "paging" },
  });
}

const seen = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      const { data, layout } = JSON.parse(target.firstElementChild.textContent);
      const legend = { ...layout.legend, ...shared.legend };
      Plotly.newPlot(target, data, { ...layout, ...shared, legend }, { responsive: true, displaylogo: false });
    }
  },
  { rootMargin: "300px" },
);
document.querySelectorAll(".plot").forEach((plot) => seen.observe(plot));

function open() {
  const run = document.getElementById(location.hash.slice(1));
  if (run instanceof HTMLDetailsElement) {
    run.open = true;
    run.scrollIntoView();
  }
}
addEventListener("hashchange", open);
open();
document.documentElement.dataset.ready = "";
