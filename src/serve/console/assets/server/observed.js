// Which value may several parts of the page watch?
//
// A value with listeners. Setting an equal value tells nobody.

import { useEffect, useState } from "../vendor/preact.js";

export class Observed {
  #value;
  #listeners = new Set();

  constructor(value) {
    this.#value = value;
  }

  get value() {
    return this.#value;
  }

  set value(value) {
    if (Object.is(value, this.#value)) return;
    this.#value = value;
    for (const listener of [...this.#listeners]) listener(value);
  }

  /** Calls `listener` with each further value; gives what ends that. */
  watch(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

/** The value of `observed`, in a component that is drawn again when it changes. */
export function useObserved(observed) {
  const [value, setValue] = useState(observed.value);
  useEffect(() => {
    setValue(observed.value);
    return observed.watch(setValue);
  }, [observed]);
  return value;
}
