/** A row as the form has it. */
export interface NewRow {
  readonly type: string;
  readonly title: string;
  readonly message: string;
}

const SAMPLES: readonly [NewRow, ...NewRow[]] = [
  { type: 'success', title: 'Export ready', message: 'All 1,284 rows are in your downloads.' },
  { type: 'info', title: 'New sign-in', message: 'Firefox on Linux, a moment ago.' },
  { type: 'warning', title: 'Storage almost full', message: '9.2 of 10 GB are in use.' },
  { type: 'error', title: 'Payment failed', message: 'The card ending in 4242 was declined.' },
];

/** One after the other, and again from the first. */
export function sample(number: number): NewRow {
  return SAMPLES[number % SAMPLES.length] ?? SAMPLES[0];
}
