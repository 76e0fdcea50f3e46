import { guard } from './guard.js';

/** A state that is the same object until something in it changes, and those who are told. */
export interface Store<State extends object, Event> {
  readonly getState: () => State;
  /** What it was when it was made. */
  readonly getInitialState: () => State;
  /** Calls `listener` after each change and with each event, until the function it gives is called. */
  readonly subscribe: (listener: (event?: Event) => void) => () => void;
  /** Looks again, and tells where anything is another than before. */
  readonly publish: () => void;
  readonly tell: (event?: Event) => void;
}

/** A store of what `look` gives. */
export function createStore<State extends object, Event>(look: () => State): Store<State, Event> {
  const listeners = new Set<(event?: Event) => void>();
  const initial = look();
  let state = initial;
  const tell = (event?: Event): void => {
    for (const listener of [...listeners]) guard(listener, event);
  };
  return {
    getState: () => state,
    getInitialState: () => initial,
    subscribe(listener) {
      listeners.add(listener);
      return () => {
        listeners.delete(listener);
      };
    },
    publish() {
      const next = look();
      const names = Object.keys(next) as (keyof State)[];
      if (names.every((name) => next[name] === state[name])) return;
      state = next;
      tell();
    },
    tell,
  };
}
