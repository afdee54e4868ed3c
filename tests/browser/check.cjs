#!/usr/bin/env node
// Opens every page of one or more folders in a browser, wide and narrow, light and dark, and says what a reader would
// stumble over. Usage and the list of checks: README.md.
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const { pathToFileURL, fileURLToPath } = require("node:url");
const { chromium } = require("playwright-core");
const { figures } = require("./figures.cjs");
const { keyboard } = require("./keyboard.cjs");

const VIEWS = [
  { width: 1280, scheme: "light" },
  { width: 1280, scheme: "dark" },
  { width: 400, scheme: "light" },
  { width: 400, scheme: "dark" },
];
// The width to which WCAG 2.1 (1.4.10) wants a page to reflow.
const NARROWEST = 320;
const LARGEST = 2_000_000;
const CONTRAST = 4.5;
const HEIGHT = 900;
const PIECE = 1600;

const SOURCES = [require.resolve("axe-core/axe.min.js"), path.join(__dirname, "in_page.js")];

/** The browser: `CHROMIUM`, else the first one found on PATH. */
function browser() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  for (const folder of (process.env.PATH || "").split(path.delimiter)) {
    for (const name of ["chromium", "chromium-browser", "google-chrome", "chrome"]) {
      const file = path.join(folder, name);
      if (fs.existsSync(file)) return file;
    }
  }
  throw new Error("there is no Chromium on PATH; install one or set CHROMIUM to its path");
}

/** Check all pages of a folder; returns findings: { page, view, kind, text, minor }. */
async function checkFolder(chrome, folder, shots, views = VIEWS) {
  const root = fs.realpathSync(folder);
  const pages = fs.readdirSync(root).filter((name) => name.endsWith(".html")).sort();
  if (!pages.includes("index.html")) {
    return [{ page: folder, view: "", kind: "document", text: "there is no index.html" }];
  }
  const all = [];
  const context = await chrome.newContext();
  const ids = {};
  // A blank page on which pictures are looked at.
  const paper = await context.newPage();
  await paper.addInitScript({ path: SOURCES[1] });
  await paper.goto("about:blank");
  for (const page of pages) {
    const file = path.join(root, page);
    const size = fs.statSync(file).size;
    if (size > LARGEST) all.push({ page, view: "", kind: "size", text: `${size} bytes are more than ${LARGEST}` });
    const about = { root, file, page, shots, ids, paper };
    for (const view of views) all.push(...(await checkView(context, about, view)));
    all.push(...(await checkOnce(context, about)));
  }
  await context.close();
  return all;
}

async function openPage(context, { root, file }, view, found) {
  const page = await context.newPage();
  await page.setViewportSize({ width: view.width, height: HEIGHT });
  await page.emulateMedia({ colorScheme: view.scheme, reducedMotion: "reduce" });
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) found.push({ kind: "console", text: message.text() });
  });
  page.on("pageerror", (error) => found.push({ kind: "console", text: error.message }));
  page.on("request", (request) => {
    const url = request.url();
    const inside = url.startsWith("file:") && fileURLToPath(url).startsWith(root + path.sep);
    if (!inside && !url.startsWith("data:")) found.push({ kind: "request", text: `asks for ${url}` });
  });
  page.on("requestfailed", (request) => found.push({ kind: "request", text: `${request.url()} does not load` }));
  for (const source of SOURCES) await page.addInitScript({ path: source });
  await page.goto(pathToFileURL(file).href);
  return page;
}

async function checkView(context, about, view) {
  const found = [];
  const page = await openPage(context, about, view, found);
  found.push(...(await page.evaluate(() => window.audit.overflow())));
  if (about.shots) await photograph(page, about, view);
  await page.evaluate(() => window.audit.open());
  found.push(...(await page.evaluate(() => window.audit.structure())));
  found.push(...(await page.evaluate(() => window.audit.overflow())));
  found.push(...(await page.evaluate((least) => window.audit.faintText(least), CONTRAST)));
  found.push(...(await figures(page, about.paper)));
  found.push(...(await axe(page)));
  await page.close();
  return found.map((one) => ({ page: about.page, view: `${view.width} ${view.scheme}`, ...one }));
}

/** What does not depend on the view: links, the keyboard, print and the narrowest window. */
async function checkOnce(context, about) {
  const found = [];
  const page = await openPage(context, about, VIEWS[0], found);
  for (const link of await page.evaluate(() => window.audit.links())) {
    const text = await broken(page, about, link);
    if (text) found.push({ kind: "link", text: `${link.name} to ${link.href}: ${text}` });
  }
  found.push(...(await keyboard(page)));
  await page.emulateMedia({ media: "print", colorScheme: "dark" });
  const [r, g, b] = await page.evaluate(() => window.audit.ground());
  if (Math.min(r, g, b) < 240) {
    found.push({ kind: "print", text: "a page printed from a dark screen has a dark ground" });
  }
  for (const one of await page.evaluate((least) => window.audit.faintText(least), CONTRAST)) {
    found.push({ kind: "print", text: one.text });
  }
  await page.emulateMedia({ media: "screen", colorScheme: "light" });
  await page.setViewportSize({ width: NARROWEST, height: HEIGHT });
  await page.evaluate(() => window.audit.open());
  found.push(...(await page.evaluate(() => window.audit.overflow())));
  await page.close();
  return found.map((one) => ({ page: about.page, view: "", ...one }));
}

async function broken(page, { root, file, ids }, { href, words }) {
  if (!words) return "it has no text";
  if (href.startsWith("data:")) return "";
  const url = new URL(href, pathToFileURL(file));
  if (url.protocol === "https:" || url.protocol === "mailto:") return "";
  if (url.protocol !== "file:") return `${url.protocol} is neither a file nor https`;
  const target = fileURLToPath(new URL(url.pathname, "file://"));
  if (!target.startsWith(root + path.sep)) return "it leads out of the folder";
  if (!fs.existsSync(target)) return "there is no such file";
  if (!url.hash) return "";
  ids[target] ||= target === file ? await page.evaluate(() => window.audit.ids()) : await idsOf(page, target);
  return ids[target].includes(decodeURIComponent(url.hash.slice(1))) ? "" : "nothing there has this id";
}

function idsOf(page, file) {
  return page.evaluate(
    (text) => [...new DOMParser().parseFromString(text, "text/html").querySelectorAll("[id]")].map((e) => e.id),
    fs.readFileSync(file, "utf8"),
  );
}

async function axe(page) {
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  return violations.map(({ id, impact, help, nodes }) => ({
    kind: `axe ${impact}`,
    text: `${id}: ${help} (${nodes.length}, first: ${nodes[0].html.replace(/\s+/g, " ").slice(0, 90)})`,
    minor: !["serious", "critical"].includes(impact),
  }));
}

/** Write the page as pictures that can be looked at: windows of a readable height, one below the other. */
async function photograph(page, { page: name, shots }, { width, scheme }) {
  fs.mkdirSync(shots, { recursive: true });
  await page.setViewportSize({ width, height: PIECE });
  const height = await page.evaluate(() => document.documentElement.scrollHeight);
  for (let top = 0, piece = 1; top < height; top += PIECE, piece += 1) {
    await page.evaluate((y) => window.scrollTo(0, y), top);
    const file = `${path.basename(name, ".html")}-${width}-${scheme}-${String(piece).padStart(2, "0")}.png`;
    await page.screenshot({ path: path.join(shots, file) });
  }
  await page.evaluate(() => window.scrollTo(0, 0));
  await page.setViewportSize({ width, height: HEIGHT });
}

async function main(words) {
  const at = words.indexOf("--shots");
  const shots = at < 0 ? null : words.splice(at, 2)[1];
  if (!words.length || (at >= 0 && !shots)) throw new Error("usage: node check.cjs FOLDER... [--shots FOLDER]");
  const chrome = await chromium.launch({ executablePath: browser(), args: ["--no-sandbox"] });
  let failed = 0;
  try {
    for (const folder of words) {
      const own = shots && (words.length > 1 ? path.join(shots, path.basename(path.resolve(folder))) : shots);
      const found = await checkFolder(chrome, folder, own);
      const lines = new Map();
      for (const { page, view, kind, text, minor } of found) {
        const line = `${minor ? "note" : "FAIL"}  ${page}  ${kind}: ${text}`;
        lines.set(line, [...(lines.get(line) || []), view].filter(Boolean));
      }
      for (const [line, views] of lines) {
        console.log(views.length ? `${line}  [${[...new Set(views)].join(", ")}]` : line);
      }
      const serious = found.filter(({ minor }) => !minor).length;
      failed += serious;
      console.log(`${folder}: ${serious ? `${serious} findings` : "nothing to object to"}`);
    }
  } finally {
    await chrome.close();
  }
  return failed ? 1 : 0;
}

module.exports = { VIEWS, browser, checkFolder };

if (require.main === module) {
  main(process.argv.slice(2)).then(
    (status) => { process.exitCode = status; },
    (error) => { console.error(`check: ${error.message}`); process.exitCode = 2; },
  );
}
