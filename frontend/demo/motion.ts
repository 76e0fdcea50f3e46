const calm = matchMedia('(prefers-reduced-motion: reduce)');
const SWINGS = [0, 14, -12, 9, -7, 4, -2, 0];

/** Rings the bell of a panel, and lights up the row that has rung it. */
export function ring(panel: HTMLElement | null, id: string): void {
  if (!panel || calm.matches || document.hidden) return;
  const bell = panel.querySelector('.ng-bell__icon');
  if (bell?.getAnimations().length === 0) {
    bell.animate(
      SWINGS.map((degrees) => ({ rotate: `${degrees}deg` })),
      { duration: 700, easing: 'ease-in-out' },
    );
  }
  // By the next frame the list shows it.
  requestAnimationFrame(() => {
    const row = panel.querySelector(`.inbox [data-id="${CSS.escape(id)}"]`);
    const lit = { background: 'var(--accent-tint)' };
    row?.animate(
      [
        { ...lit, translate: '0 -6px' },
        { ...lit, translate: '0', offset: 0.12 },
        { ...lit, offset: 0.45 },
        { background: 'transparent' },
      ],
      { duration: 1800, easing: 'ease-out' },
    );
  });
}
