// A form for messages: to edit a question, or to type what tools returned.

import { el, newId } from "./dom.js";

export function messageForm(messages, { label, submit, onSubmit, onCancel }) {
  const boxes = messages.map((message) => el("textarea", {
    id: newId(), rows: Math.min(12, message.content.split("\n").length + 1), value: message.content, spellcheck: false,
  }));
  const fields = messages.flatMap((message, index) => [
    el("label", { htmlFor: boxes[index].id, textContent: label(message) }), boxes[index],
  ]);
  const buttons = el("div", { className: "buttons" });
  if (onCancel) buttons.append(cancelButton(onCancel));
  buttons.append(el("button", { type: "submit", className: "primary", textContent: submit }));
  const form = el("form", { className: "messages" }, ...fields, buttons);
  form.messages = () => messages.map((message, index) => ({ ...message, content: boxes[index].value }));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    onSubmit(form.messages());
  });
  form.addEventListener("keydown", (event) => onKey(event, form, onCancel));
  return form;
}

function cancelButton(onCancel) {
  const button = el("button", { type: "button", textContent: "Cancel" });
  button.addEventListener("click", onCancel);
  return button;
}

function onKey(event, form, onCancel) {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  if (event.key !== "Escape" || !onCancel) return;
  event.stopPropagation();
  onCancel();
}
