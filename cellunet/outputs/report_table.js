
"use strict";
(() => {
  const by = (id) => document.getElementById(id);
  const table = by("images");
  const rows = [...table.tBodies].flatMap((body) => [...body.rows]);
  rows.forEach((row, place) => {
    row.place = place;
    row.label = row.cells[1].firstElementChild.textContent;
    row.folded = row.label.toLocaleLowerCase();
  });
  const body = table.tBodies[0];
  while (table.tBodies.length > 1) table.tBodies[1].remove();

  let key = "";
  let down = false;
  let page = 0;
  let found = rows;

  const collator = new Intl.Collator(undefined, { numeric: true });
  const value = (row) => (row.dataset[key] === "" ? null : Number(row.dataset[key]));
  const compare = (a, b) => {
    if (key === "name") return collator.compare(a.label, b.label) * (down ? -1 : 1);
    const x = value(a), y = value(b);
    // Without a value: last, whichever way.
    if (x === null || y === null) return (x === null) - (y === null);
    return (x - y) * (down ? -1 : 1);
  };

  const select = () => {
    const words = by("name").value.trim().toLocaleLowerCase();
    const kind = by("kind").value;
    found = rows.filter((row) => row.folded.includes(words) && (
      !kind || row.dataset.k === kind || (kind === "look" && row.dataset.k === "failed")));
    if (key) found.sort((a, b) => compare(a, b) || a.place - b.place);
  };

  const show = () => {
    const size = Number(by("size").value) || Math.max(found.length, 1);
    const last = Math.max(Math.ceil(found.length / size) - 1, 0);
    page = Math.min(Math.max(page, 0), last);
    const from = page * size;
    const shown = found.slice(from, from + size);
    body.replaceChildren(...shown);
    by("said").textContent = shown.length
      ? `Images ${(from + 1).toLocaleString("en")} to ${(from + shown.length).toLocaleString("en")}` +
        ` of ${found.length.toLocaleString("en")}` +
        (found.length < rows.length ? ` found among ${rows.length.toLocaleString("en")}.` : ".")
      : "No image is like that.";
    by("page").textContent = `Page ${page + 1} of ${last + 1}`;
    by("pages").hidden = last === 0;
    by("previous").disabled = page === 0;
    by("next").disabled = page === last;
  };

  const again = () => { page = 0; select(); show(); };

  for (const head of table.tHead.querySelectorAll("[data-sort]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(head.firstChild.textContent.trim());
    head.firstChild.replaceWith(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      down = key === head.dataset.sort ? !down : head.dataset.sort === "n";
      key = head.dataset.sort;
      for (const other of table.tHead.querySelectorAll("[aria-sort]"))
        other.setAttribute("aria-sort", other !== head ? "none" : down ? "descending" : "ascending");
      again();
    });
  }

  // A row that is linked to may be on another page, or filtered out.
  const reveal = () => {
    const number = /^#i(\d+)$/.exec(location.hash);
    const row = number && rows[Number(number[1]) - 1];
    if (!row) return;
    if (!found.includes(row)) {
      by("name").value = "";
      by("kind").value = "";
      select();
    }
    page = Math.floor(found.indexOf(row) / (Number(by("size").value) || rows.length));
    show();
    row.tabIndex = -1;
    row.focus();
    row.scrollIntoView({ block: "center" });
  };

  let waiting = 0;
  by("name").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(again, 120);
  });
  by("kind").addEventListener("change", again);
  by("size").addEventListener("change", again);
  by("pictures").addEventListener("change", () => {
    const wanted = by("pictures").value;
    table.classList.toggle("large", wanted === "large");
    table.classList.toggle("nopics", wanted === "none");
  });
  by("controls").addEventListener("submit", (event) => event.preventDefault());
  const turn = (by_) => {
    page += by_;
    show();
    by("all").focus();
  };
  by("previous").addEventListener("click", () => turn(-1));
  by("next").addEventListener("click", () => turn(1));
  addEventListener("hashchange", reveal);
  by("controls").hidden = false;
  show();
  reveal();
})();
