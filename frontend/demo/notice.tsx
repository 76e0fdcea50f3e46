import type { ReactElement, ReactNode } from 'react';
import { Problem } from './request.js';

/** Says what went wrong, and offers what may help. */
export function Notice(props: {
  readonly error: unknown;
  readonly children?: ReactNode;
}): ReactElement {
  const { title, detail } =
    props.error instanceof Problem
      ? props.error
      : { title: 'Something went wrong', detail: String(props.error) };
  return (
    <div className="notice" role="alert">
      <span>
        <strong>{detail && !/[.!?:]$/.test(title) ? `${title}.` : title}</strong> {detail}
      </span>
      {props.children}
    </div>
  );
}
