// What a page cannot do by itself: type the code behind the # of its address, and show what happens while it is open.
// Text is shown as text alone: nothing that was sent is ever markup.
"use strict";
{
  const enter = document.getElementById("enter"), live = document.getElementById("live");
  if (enter && location.hash.length > 1) {
    enter.elements.code.value = decodeURIComponent(location.hash.slice(1));
    history.replaceState(null, "", location.pathname);
    enter.submit();
  }
  const fill = (spot, pieces) => {
    const whole = document.createElement("bdi");
    whole.className = "peer";
    whole.dir = "auto";
    for (const [text, kind] of pieces) {
      const piece = document.createElement(kind ? "bdi" : "span");
      if (kind) { piece.className = "box"; piece.title = kind; }
      piece.textContent = text;
      whole.append(piece);
    }
    spot.replaceChildren(whole);
  };
  const made = (row) => {
    const item = document.getElementById("blank-" + row.is).content.firstElementChild.cloneNode(true);
    if (row.id) item.id = row.id;
    item.classList.add("hue-" + (row.hue || 0), ...(row.marks || []));
    for (const spot of item.querySelectorAll("[data-href]")) {
      spot.href = live.dataset.base + spot.dataset.href + "/" + encodeURIComponent(row.id);
    }
    for (const spot of item.querySelectorAll("[data-is]")) {
      const pieces = row.fields[spot.dataset.is];
      if (pieces) fill(spot, pieces); else spot.remove();
      if (pieces && row.long && spot.classList.contains("words")) spot.tabIndex = 0;
    }
    return item;
  };
  const put = ({ list, add, rows }) => {
    const into = document.getElementById(list), newest = document.getElementById("newest");
    if (!into) return;
    const isAtEnd = newest && newest.getBoundingClientRect().top < innerHeight + 120;
    const fresh = rows.filter((row) => !row.id || !document.getElementById(row.id)).map(made);
    if (add) into.append(...fresh); else into.replaceChildren(...rows.map(made));
    while (into.children.length > 500) into.firstElementChild.remove();
    if (add && isAtEnd) newest.scrollIntoView({ block: "end" });
  };
  let source, isOver = false, after = live ? live.dataset.after : "";
  const say = (text, isOn) => { live.textContent = text; live.classList.toggle("on", Boolean(isOn)); };
  const follow = () => {
    if (source) source.close();
    if (document.hidden) return say("paused");
    source = new EventSource(live.dataset.live + "?after=" + encodeURIComponent(after));
    source.onopen = () => say("live", true);
    source.onerror = () => say(source.readyState === EventSource.CLOSED ? "ended" : "connecting");
    source.addEventListener("rows", (event) => { after = event.lastEventId || after; put(JSON.parse(event.data)); });
    source.addEventListener("changed", () => say("something changed: load this page again"));
    source.addEventListener("end", (event) => { source.close(); isOver = true; say(JSON.parse(event.data).said); });
  };
  if (live && live.dataset.live) {
    follow();
    document.addEventListener("visibilitychange", () => { if (!isOver) follow(); });
  }
}
