// @ts-check
/** What a form says after its answer: that it worked, or a value that is shown once. */

/** Read as an attribute: a field named `dataset` stands before the form's own `dataset`. @param {HTMLFormElement} form @param {string} name */
export function told(form, name) {
  return form.getAttribute(`data-${name}`) ?? "";
}

/** A value of the answer that is not told again. @param {HTMLFormElement} form @param {string} value */
export function showOnce(form, value) {
  const box = document.createElement("div");
  box.className = "once";
  box.setAttribute("role", "status");
  const words = document.createElement("p");
  words.textContent = told(form, "show-words");
  const code = document.createElement("code");
  code.textContent = value;
  box.append(words, code);
  form.querySelector("[role=status]")?.remove();
  form.append(box);
}

/** @param {HTMLFormElement} form */
export function sayDone(form) {
  const said = document.createElement("p");
  said.className = "state";
  said.dataset.shape = "tick";
  said.dataset.tone = "ok";
  said.setAttribute("role", "status");
  said.textContent = told(form, "done");
  form.querySelector("[role=status]")?.remove();
  form.append(said);
}
