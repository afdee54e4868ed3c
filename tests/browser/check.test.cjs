// The check itself: a sound page passes, and a page with one fault is refused for that fault.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { after, before, test } = require("node:test");
const { chromium } = require("playwright-core");
const { VIEWS, browser, checkFolder } = require("./check.cjs");

const STYLE = `
  :root { color-scheme: light dark; --ink: #111; --ground: #fff; }
  @media screen and (prefers-color-scheme: dark) { :root { --ink: #eee; --ground: #111; } }
  body { color: var(--ink); background: var(--ground); font: 16px sans-serif; }
  a { color: inherit; } a:focus-visible { outline: 2px solid; }
  .skip { position: absolute; left: -99rem; } .skip:focus { left: 0; top: 0; }
  svg { width: 100%; } text { fill: var(--ink); font-size: 12px; }`;

const page = (body, { style = "", skip = '<a class="skip" href="#main">Skip to the text</a>' } = {}) =>
  `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>A page</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<style>${STYLE}${style}</style></head>
<body>${skip}<main id="main" tabindex="-1"><h1>A page</h1>${body}</main></body></html>`;

const figure = (texts, box = "0 0 300 100") =>
  `<svg viewBox="${box}" role="img" aria-label="A figure that shows what is tested">${texts}</svg>`;

const SOUND = page(
  `<p><a href="index.html#main">Text</a></p><h2>More</h2>${figure('<text x="10" y="50">text</text>')}
<table><caption>Numbers</caption><thead><tr><th scope="col">name</th><th scope="col">n</th></tr></thead>
<tbody><tr><th scope="row">a</th><td>1</td></tr></tbody></table>`,
);

// Name of the page -> its content, and what has to be said of it.
const FAULTS = {
  console: [page("<script>console.error('no')</script>"), "console", /no/],
  script: [page("<p onclick='0'>text</p>"), "script", /runs a script/],
  request: [page('<img alt="" src="https://example.org/a.png">'), "request", /example\.org/],
  gone: [page('<a href="missing.html">text</a>'), "link", /no such file/],
  anchor: [page('<a href="#gone">text</a>'), "link", /has this id/],
  elsewhere: [page('<a href="index.html#gone">text</a>'), "link", /has this id/],
  outside: [page('<a href="../secret.html">text</a>'), "link", /out of the folder/],
  wide: [page('<div style="width: 2000px">text</div>'), "overflow", /wide/],
  cut: [page('<div style="overflow: hidden; white-space: nowrap; width: 50px">a long text</div>'), "overflow", /cut/],
  faint: [page('<p style="color: #888; background: #999">text</p>'), "contrast", /: 1/],
  image: [page('<img src="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=">'), "alternatives", /no alt/],
  silent: [page('<svg viewBox="0 0 10 10"><path d="M0 0h5"/></svg>'), "alternatives", /neither an image/],
  headless: [page("<table><caption>t</caption><tbody><tr><td>1</td></tr></tbody></table>"), "tables", /no column/],
  unlabelled: [SOUND.replace('<th scope="row">a</th>', "<td>a</td>"), "tables", /row has no header/],
  laidOut: [SOUND.replace("<table>", '<table style="display: block">'), "tables", /laid out as no table/],
  jump: [page("<h3>text</h3>"), "headings", /level 3/],
  twice: [page('<p id="a">a</p><p id="a">b</p>'), "ids", /twice/],
  noSkip: [page("<p>text</p>", { skip: "" }), "focus", /no skip link/],
  noOutline: [page('<a href="index.html">text</a>', { style: "a { outline: none !important }" }), "focus", /outline/],
  order: [page('<a href="#main">a</a><a href="#main" tabindex="3">b</a>'), "focus", /tabindex/],
  svgFaint: [page(figure('<text x="10" y="50" style="fill: #888">text</text>')), "contrast", /"text" has/],
  svgScheme: [page(figure('<text x="10" y="50" style="fill: #111">text</text>')), "contrast", /"text" has/],
  svgGround: [
    page(figure('<rect width="300" height="100" fill="#777"/><text x="10" y="50" style="fill: #555">text</text>')),
    "contrast", /"text" has/,
  ],
  svgSmall: [page(figure('<text x="10" y="50">text</text>', "0 0 900 100")), "small text", /px/],
  svgCut: [page(figure('<text x="280" y="50">a long text</text>')), "figure text", /out of the picture/],
  svgCrowd: [page(figure('<text x="9" y="50">one</text><text x="12" y="50">two</text>')), "figure text", /lies on/],
  darkPrint: [
    page("<p>text</p>", { style: "@media print { body { background: #222; color: #eee } }" }),
    "print", /dark/,
  ],
  heavy: [page(`<!-- ${"x".repeat(2_000_000)} -->`), "size", /bytes/],
};

let folder, found;

before(async () => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), "pages-"));
  fs.writeFileSync(path.join(folder, "index.html"), SOUND);
  for (const [name, [text]] of Object.entries(FAULTS)) fs.writeFileSync(path.join(folder, `${name}.html`), text);
  const chrome = await chromium.launch({ executablePath: browser(), args: ["--no-sandbox"] });
  found = await checkFolder(chrome, folder, null, [VIEWS[0], VIEWS[3]]);
  await chrome.close();
});

after(() => fs.rmSync(folder, { recursive: true }));

test("a sound page has no findings", () => {
  assert.deepEqual(found.filter((one) => one.page === "index.html"), []);
});

for (const [name, [, kind, says]] of Object.entries(FAULTS)) {
  test(`a page with the fault "${name}" is refused`, () => {
    const own = found.filter((one) => one.page === `${name}.html`);
    assert.ok(own.some((one) => one.kind === kind && says.test(one.text) && !one.minor), JSON.stringify(own, null, 1));
  });
}

test("a folder without an index is refused", async () => {
  const empty = fs.mkdtempSync(path.join(os.tmpdir(), "empty-"));
  assert.match((await checkFolder(null, empty, null))[0].text, /no index\.html/);
  fs.rmdirSync(empty);
});
