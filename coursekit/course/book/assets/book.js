// Search over SECTIONS (search.js): every word must begin a word of a section; a hit in a title counts more.
const query = document.getElementById("query");
const found = document.getElementById("found");
const MOST = 12;

function words(text) {
  return text.toLowerCase().match(/[\p{L}\p{N}]+/gu) || [];
}

for (const section of SECTIONS) {
  section.titleWords = words(section.title + " " + section.of);
  section.textWords = words(section.text);
}

function score(section, wanted) {
  let sum = 0;
  for (const word of wanted) {
    const begins = (other) => other.startsWith(word);
    const inText = section.textWords.filter(begins).length;
    const inTitle = section.titleWords.some(begins);
    if (!inText && !inTitle) return 0;
    sum += (inTitle ? 10 : 0) + Math.min(inText, 5);
  }
  return sum;
}

function excerpt(section, word) {
  const at = section.text.toLowerCase().indexOf(word);
  const start = Math.max(0, at - 60);
  return (start ? "…" : "") + section.text.slice(start, start + 160) + "…";
}

function add(kind, text, parent) {
  const element = document.createElement(kind);
  element.textContent = text;
  parent.append(element);
  return element;
}

function search() {
  const wanted = words(query.value);
  found.replaceChildren();
  found.hidden = wanted.length === 0;
  if (found.hidden) return;
  const hits = SECTIONS.map((section) => [score(section, wanted), section]).filter(([points]) => points > 0);
  hits.sort((one, other) => other[0] - one[0]);
  if (!hits.length) add("p", "Nothing found.", found);
  for (const [, section] of hits.slice(0, MOST)) {
    const link = add("a", section.title, found);
    link.href = section.page + "#" + section.anchor;
    add("small", section.of, link);
    add("small", excerpt(section, wanted[0]), link);
  }
}

query.addEventListener("input", search);
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== query) {
    event.preventDefault();
    query.focus();
  } else if (event.key === "Escape") {
    query.value = "";
    search();
  }
});
found.addEventListener("click", () => { query.value = ""; search(); });
if (window.matchMedia("(max-width: 62rem)").matches) document.getElementById("contents").open = false;
query.value = new URLSearchParams(location.search).get("q") || "";
search();
