import { type RefObject, useEffect, useLayoutEffect } from 'react';

/** A server lays nothing out, and React 18 says so each time. */
const useLayout = typeof document === 'undefined' ? useEffect : useLayoutEffect;

/** Where a panel opens, seen from its button: below it, its edge with the button's end or start. */
export type Placement = 'bottom-end' | 'bottom-start';

/** Between the button, the panel and the edge of the window, in CSS pixels. */
const GAP = 8;

/**
 * Shows the panel in the browser's top layer, where nothing clips or covers it, beside its
 * button and inside the window, and follows both. The style sheet does the rest by
 * `--ng-x`, `--ng-y` and `--ng-room`; on a small screen it makes a sheet of it instead.
 */
export function usePosition(
  button: RefObject<HTMLElement | null>,
  panel: RefObject<HTMLElement | null>,
  isOpen: boolean,
  placement: Placement,
): void {
  useLayout(() => {
    const [anchor, box] = [button.current, panel.current];
    if (!isOpen || !anchor || !box) return;
    // Where there are no popovers (a test's DOM), the panel is where it is in the page.
    if ('showPopover' in box && !box.matches(':popover-open')) box.showPopover();
    let frame = 0;
    const place = (): void => {
      const near = anchor.getBoundingClientRect();
      const { clientWidth, clientHeight } = document.documentElement;
      const { offsetWidth: width, scrollHeight } = box;
      const isEnd = placement === 'bottom-end';
      // The end of a line is on the left in Arabic.
      const isRight = isEnd === (getComputedStyle(anchor).direction === 'ltr');
      const wanted = isRight ? near.right - width : near.left;
      const x = Math.max(GAP, Math.min(wanted, clientWidth - width - GAP));
      const below = clientHeight - near.bottom - 2 * GAP;
      const above = near.top - 2 * GAP;
      const isBelow = below >= Math.min(scrollHeight, above);
      const room = Math.max(isBelow ? below : above, 0);
      const set = (name: string, value: number): void => {
        box.style.setProperty(name, `${value}px`);
      };
      set('--ng-room', room);
      set('--ng-x', x);
      const height = Math.min(box.offsetHeight, room);
      set('--ng-y', isBelow ? near.bottom + GAP : near.top - GAP - height);
    };
    const follow = (): void => {
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(place);
    };
    place();
    const sized = typeof ResizeObserver === 'undefined' ? null : new ResizeObserver(follow);
    sized?.observe(box);
    const listening = new AbortController();
    const options = { capture: true, passive: true, signal: listening.signal };
    addEventListener('scroll', follow, options);
    addEventListener('resize', follow, options);
    return () => {
      cancelAnimationFrame(frame);
      sized?.disconnect();
      listening.abort();
    };
  }, [button, panel, isOpen, placement]);
}
