"use strict";
// Names of files are written with textContent only, so they can never become markup.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const images = data.images;  // sorted by score, highest first
const hasLabels = images.some((image) => image.known !== null);
const TEXT = { missed: "missed defect", alarm: "false alarm", defect: "defective", pass: "good" };
const BARS = 50;
const TOP = Math.max(1, data.threshold, images[0].score);  // above 1 for raw scores
let threshold = data.threshold;
let opened = -1;

function element(tag, name, text) {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text ?? "";
  return made;
}

function labelOf(image) {
  return image.known === null ? "unknown" : image.known ? "defective" : "good";
}

function outcomeOf(image) {
  const called = image.score > threshold;
  if (called) return image.known === false ? "alarm" : "defect";
  return image.known === true ? "missed" : "pass";
}

function isChosen(image) {  // by run and folder, which the counts follow
  return ["run", "folder"].every((name) => !$(name).value || image[name] === $(name).value);
}

function isShown(image) {
  if (!isChosen(image) || ($("label").value && labelOf(image) !== $("label").value)) return false;
  const wanted = $("verdict").value, outcome = outcomeOf(image);
  if (wanted === "defect") return outcome === "defect" || outcome === "alarm";
  if (wanted === "pass") return outcome === "pass" || outcome === "missed";
  return !wanted || outcome === wanted;
}

function makeCard(image, index) {
  const card = element("button", "card");
  card.type = "button";
  const frame = element("span", "frame", image.thumbnail ? "" : "no picture");
  if (image.thumbnail) {
    const picture = element("img");
    picture.src = image.thumbnail;
    picture.alt = "";  // the text beside it says all
    picture.decoding = "async";
    frame.append(picture);
  }
  const text = element("span", "text");
  text.append(element("span", "score", image.score.toFixed(3)), element("span", "outcome"),
    element("span", "name", `${image.folder}/${image.name}`));
  card.title = image.file;
  card.append(frame, text);
  card.addEventListener("click", () => open(index));
  return card;
}

function drawHistogram() {
  const counts = Array.from({ length: BARS }, () => ({ good: 0, defective: 0, unknown: 0 }));
  for (const image of images.filter(isChosen)) {
    counts[Math.min(BARS - 1, Math.floor(image.score / TOP * BARS))][labelOf(image)] += 1;
  }
  const highest = Math.max(1, ...counts.map((bar) => bar.good + bar.defective + bar.unknown));
  $("histogram").replaceChildren(...counts.map((bar) => {
    const column = element("div");
    for (const [label, count] of Object.entries(bar)) {
      if (!count) continue;
      const part = element("span", label);
      part.style.height = `${100 * count / highest}%`;
      column.append(part);
    }
    return column;
  }));
}

function update() {
  const chosen = images.filter(isChosen);
  const count = (...outcomes) => chosen.filter((image) => outcomes.includes(outcomeOf(image))).length;
  const defective = chosen.filter((image) => image.known === true).length;
  const good = chosen.filter((image) => image.known === false).length;
  document.querySelectorAll(".counts .known").forEach((one) => { one.hidden = !(defective + good); });
  $("missed").textContent = count("missed");
  $("missed-of").textContent = `of ${defective} defective`;
  $("alarms").textContent = count("alarm");
  $("alarms-of").textContent = `of ${good} good`;
  $("called").textContent = count("defect", "alarm");
  $("called-of").textContent = `of ${chosen.length} images`;
  let shown = 0;
  images.forEach((image, index) => {
    const card = cards[index], outcome = outcomeOf(image);
    if (card.dataset.outcome !== outcome) {
      card.dataset.outcome = outcome;
      card.querySelector(".outcome").textContent = TEXT[outcome];
    }
    card.hidden = !isShown(image);
    shown += card.hidden ? 0 : 1;
  });
  $("shown").textContent = `${shown} of ${images.length} images shown, highest score first`;
}

function setThreshold(value) {
  threshold = Math.min(TOP, Math.max(0, value));
  $("slider").value = threshold;
  if (document.activeElement !== $("number")) $("number").value = +threshold.toFixed(6);
  document.querySelector(".command").hidden = !data.command;
  $("command").value = `${data.command} --threshold ${+threshold.toFixed(6)}`;
  update();
}

function fill(select, values) {
  select.replaceChildren(new Option("all", ""), ...[...new Set(values)].sort().map((value) => new Option(value, value)));
}

function figure(picture) {
  const made = element("figure", picture.wide ? "wide" : ""), link = element("a"), shown = element("img");
  shown.src = link.href = encodeURI(picture.source);
  link.target = "_blank";
  link.title = "Open in full size";
  shown.alt = picture.title;
  link.append(shown);
  made.append(link, element("figcaption", "", picture.title));
  return made;
}

function open(index) {
  opened = index;
  const image = images[index];
  $("viewer-title").textContent = `${image.folder}/${image.name}`;
  const facts = [`Score ${image.score.toFixed(4)}`, `threshold ${+threshold.toFixed(4)}`, TEXT[outcomeOf(image)],
    `label ${labelOf(image)}`, image.file];
  $("viewer-facts").textContent = facts.join(" · ");
  $("pictures").replaceChildren(...image.pictures.map(figure));
  if (!image.pictures.length) $("pictures").textContent = "The pictures of this image were not found.";
  if (!$("viewer").open) $("viewer").showModal();
  $("viewer").scrollTop = 0;
}

function step(by) {
  for (let index = opened + by; index >= 0 && index < images.length; index += by) {
    if (!cards[index].hidden) return open(index);
  }
}

async function copy() {
  let done = true;
  try {
    await navigator.clipboard.writeText($("command").value);
  } catch {  // browsers may refuse it for local files
    $("command").select();
    done = document.execCommand("copy");
  }
  $("copy").textContent = done ? "Copied" : "Press Ctrl-C";
  setTimeout(() => { $("copy").textContent = "Copy"; }, 1500);
}

document.title = $("title").textContent = data.title;
document.querySelectorAll(".known").forEach((one) => { one.hidden = !hasLabels; });
fill($("run"), images.map((image) => image.run));
$("run-label").hidden = $("run").length < 3;
fill($("folder"), images.map((image) => image.folder));
const cards = images.map(makeCard);
$("images").append(...cards);
$("slider").max = $("number").max = TOP;
$("slider").step = TOP / 1000;
$("top").textContent = +TOP.toFixed(3);
drawHistogram();
setThreshold(data.threshold);

$("slider").addEventListener("input", () => setThreshold(Number($("slider").value)));
$("number").addEventListener("input", () => {
  if ($("number").value !== "") setThreshold(Number($("number").value));
});
$("reset").addEventListener("click", () => setThreshold(data.thresholds[$("run").value] ?? data.threshold));
$("copy").addEventListener("click", copy);
$("run").addEventListener("change", () => {
  if ($("run").value in data.thresholds) setThreshold(data.thresholds[$("run").value]);
});
for (const name of ["run", "folder"]) $(name).addEventListener("change", () => { drawHistogram(); update(); });
for (const name of ["label", "verdict"]) $(name).addEventListener("change", update);
document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
$("previous").addEventListener("click", () => step(-1));
$("next").addEventListener("click", () => step(1));
$("close").addEventListener("click", () => $("viewer").close());
$("viewer").addEventListener("close", () => { if (!cards[opened].hidden) cards[opened].focus(); });
$("viewer").addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});
