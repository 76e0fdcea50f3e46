const calm = matchMedia('(prefers-reduced-motion: reduce)');
const SWINGS = [0, 14, -12, 9, -7, 4, -2, 0];

/** Rings the bell of a panel. */
export function ring(panel: HTMLElement | null): void {
  if (!panel || calm.matches || document.hidden) return;
  const bell = panel.querySelector('.ng-bell__icon');
  if (bell?.getAnimations().length === 0) {
    bell.animate(
      SWINGS.map((degrees) => ({ rotate: `${degrees}deg` })),
      { duration: 700, easing: 'ease-in-out' },
    );
  }
}
