// Plots of the last answers, drawn as SVG, which say in words what they show.

import { byId, decimals, el, percent, rate, soon, svg } from "./dom.js";

const MEAN_OVER_STEPS = 16;
const STEPS_SHOWN = 200;
const ANSWERS_SHOWN = 8;
const WIDTH = 288;
const HEIGHT = 80;
const AREA = { left: 30, right: WIDTH - 4, top: 8, bottom: HEIGHT - 8 };

class Plot {
  constructor(id, title, hint = "") {
    this.title = title;
    this.value = el("strong", { textContent: "–" });
    this.picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}: no answer yet` });
    const caption = el("figcaption", {}, el("span", {}, title), this.value);
    byId(id).replaceChildren(caption, this.picture);
    if (hint) byId(id).append(el("p", { className: "note", textContent: hint }));
    this.show([], "–", "no answer yet");
  }

  y(value, top) {
    return AREA.bottom - (value / top) * (AREA.bottom - AREA.top);
  }

  grid(marks, top, format) {
    return marks.flatMap((mark) => {
      const y = this.y(mark, top);
      return [
        svg("line", { class: "grid", x1: AREA.left, x2: AREA.right, y1: y, y2: y }),
        svg("text", { class: "tick", x: AREA.left - 5, y: y + 3, "text-anchor": "end" }, format(mark)),
      ];
    });
  }

  show(shapes, value, description) {
    this.value.textContent = value;
    this.picture.setAttribute("aria-label", `${this.title}: ${description}`);
    this.picture.replaceChildren(...shapes);
    if (shapes.length === 0) {
      const middle = { class: "tick", x: WIDTH / 2, y: HEIGHT / 2, "text-anchor": "middle" };
      this.picture.append(svg("text", middle, "No answer yet"));
    }
  }
}

function xOfStep(index, count) {
  const places = Math.max(count, 40) - 1;
  return AREA.left + (index / places) * (AREA.right - AREA.left);
}

// A line with gaps where there is no value, and at the border between two answers.
function linePath(values, steps, y) {
  let path = "";
  let pen = false;
  values.forEach((value, index) => {
    if (value === null) {
      pen = false;
      return;
    }
    const joined = pen && steps[index].answer === steps[index - 1]?.answer;
    path += `${joined ? "L" : "M"}${xOfStep(index, values.length).toFixed(1)} ${y(value).toFixed(1)}`;
    // A lone point needs some length to be seen.
    if (!joined) path += "h.5";
    pen = true;
  });
  return path;
}

function borders(steps) {
  return steps.flatMap((step, index) => {
    if (index === 0 || step.answer === steps[index - 1].answer) return [];
    const x = xOfStep(index - 0.5, steps.length);
    return [svg("line", { class: "border", x1: x, x2: x, y1: AREA.top, y2: AREA.bottom })];
  });
}

// Mean over the last steps of the same answer: what the step before an answer did says nothing about it.
function movingRatio(steps, part, whole) {
  let first = 0;
  let sums = [0, 0];
  return steps.map((step, index) => {
    if (index && step.answer !== steps[index - 1].answer) {
      first = index;
      sums = [0, 0];
    }
    sums = [sums[0] + part(step), sums[1] + whole(step)];
    if (index - first >= MEAN_OVER_STEPS) {
      sums = [sums[0] - part(steps[first]), sums[1] - whole(steps[first])];
      first += 1;
    }
    return sums[1] ? sums[0] / sums[1] : null;
  });
}

const lastValue = (values) => values.findLast((value) => value !== null) ?? null;

export const trends = {
  steps: [],
  answers: [],

  start() {
    this.edl = new Plot("plot-edl", "Tokens a step (EDL)");
    this.acceptance = new Plot("plot-acceptance", "Drafts accepted");
    this.speed = new Plot("plot-speed", "Tokens per second", "Filled: lookahead. Hollow: plain.");
  },

  addStep(answer, { tokens = [], drafted = 0, accepted = 0 }) {
    this.steps.push({ answer, tokens: tokens.length, drafted, accepted });
    if (this.steps.length > STEPS_SHOWN) this.steps.shift();
    soon(drawSteps);
  },

  addAnswer(answer) {
    if (!answer.measure.speed) return;
    this.answers.push({ speed: answer.measure.speed, decoding: answer.decoding });
    if (this.answers.length > ANSWERS_SHOWN) this.answers.shift();
    soon(drawAnswers);
  },
};

function drawSteps() {
  drawEdl(trends.steps);
  drawAcceptance(trends.steps);
}

function drawEdl(steps) {
  const means = movingRatio(steps, (step) => step.tokens, () => 1);
  const top = Math.max(4, ...steps.map((step) => step.tokens));
  const y = (value) => trends.edl.y(value, top);
  const x = (index) => xOfStep(index, steps.length).toFixed(1);
  const bars = steps.map((step, index) => `M${x(index)} ${y(0)}V${y(step.tokens).toFixed(1)}`);
  const now = decimals(lastValue(means), 2);
  trends.edl.show([
    ...trends.edl.grid([0, Math.round(top / 2), top], top, String),
    svg("path", { class: "bars", d: bars.join("") }),
    ...borders(steps),
    svg("path", { class: "line", d: linePath(means, steps, y) }),
  ], now, `${now} on average over the last ${MEAN_OVER_STEPS} steps; ${steps.length} steps shown`);
}

function drawAcceptance(steps) {
  const shares = movingRatio(steps, (step) => step.accepted, (step) => step.drafted);
  const y = (value) => trends.acceptance.y(value, 1);
  const last = lastValue(shares);
  const now = last === null ? "–" : percent(last, 1);
  trends.acceptance.show([
    ...trends.acceptance.grid([0, 0.5, 1], 1, (mark) => percent(mark, 1)),
    ...borders(steps),
    svg("path", { class: "line", d: linePath(shares, steps, y) }),
  ], now, last === null ? "nothing drafted yet" : `${now} of the last drafts accepted; ${steps.length} steps shown`);
}

function drawAnswers() {
  const { answers, speed: plot } = trends;
  const top = Math.max(...answers.map((answer) => answer.speed)) * 1.2;
  const place = (AREA.right - AREA.left) / ANSWERS_SHOWN;
  const width = place * 0.7;
  const bars = answers.flatMap(({ speed, decoding }, index) => {
    const x = AREA.left + index * place + (place - width) / 2;
    const y = plot.y(speed, top);
    return [
      svg("rect", { class: `bar ${decoding}`, x, y, width, height: AREA.bottom - y, rx: 2 }),
      svg("text", { class: "tick", x: x + width / 2, y: y - 3, "text-anchor": "middle" }, rate(speed)),
    ];
  });
  const said = answers.map((answer) => `${answer.decoding} ${rate(answer.speed)}`).join(", ");
  const { speed, decoding } = answers.at(-1);
  plot.show([...plot.grid([0], top, String), ...bars], `${rate(speed)} ${decoding}`, `last answers, oldest first: ${said}`);
}
