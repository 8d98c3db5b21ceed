// @ts-check
/** The form that rolls a version out: one choice fills the two fields that the API asks for. */

for (const choice of document.querySelectorAll("[data-rollout-version]")) {
  const select = /** @type {HTMLSelectElement} */ (choice);
  const fill = () => {
    const [group, version] = select.value.split("/");
    const form = /** @type {HTMLFormElement} */ (select.form);
    /** @type {HTMLInputElement} */ (form.querySelector('[type="hidden"][name="group"]')).value = group;
    /** @type {HTMLInputElement} */ (form.querySelector('[type="hidden"][name="version"]')).value = version;
  };
  select.addEventListener("change", fill);
  fill();
}
