import { type ReactElement, useLayoutEffect, useRef, useState } from 'react';
import { Chevron } from './icons.js';
import { Notice } from './notice.js';
import { Problem, request } from './request.js';
import { type NewRow, sample } from './samples.js';
import type { User } from './user.js';

/** The form that writes a row as an application would. */
export function InsertForm(props: {
  readonly user: User;
  /** Which sample is first; two forms side by side have others. */
  readonly first: number;
  /** A row was written, and when the visitor asked for it. */
  readonly onInserted: (id: string, askedAt: number) => void;
}): ReactElement {
  const { user } = props;
  const [number, setNumber] = useState(props.first);
  const [row, setRow] = useState(sample(props.first));
  const [error, setError] = useState<unknown>(null);
  const message = useRef<HTMLTextAreaElement>(null);

  useLayoutEffect(() => {
    const fit = (): void => {
      if (message.current) fitToText(message.current);
    };
    fit();
    addEventListener('resize', fit);
    return () => {
      removeEventListener('resize', fit);
    };
  }, [row.message]);

  const change = (part: Partial<NewRow>): void => {
    setRow((before) => ({ ...before, ...part }));
  };
  const insert = async (): Promise<void> => {
    const askedAt = performance.now();
    const answer = await request('/demo/notifications', { user_id: user.user_id, ...row });
    const { id } = Object(answer) as { id?: unknown };
    if (typeof id !== 'string') throw new Problem('The row has no id');
    setError(null);
    props.onInserted(id, askedAt);
    // A text that the visitor has typed stays where it is.
    if (!isSame(row, sample(number))) return;
    setNumber(number + 1);
    setRow((now) => (isSame(now, row) ? sample(number + 1) : now));
  };
  return (
    <form
      className="write"
      autoComplete="off"
      aria-label={`Insert a row for ${user.name}`}
      onSubmit={(event) => {
        event.preventDefault();
        insert().catch(setError);
      }}
    >
      <label>
        <span className="caption">Type</span>
        <span className="pick">
          <select
            name="type"
            value={row.type}
            onChange={(event) => {
              change({ type: event.target.value });
            }}
          >
            <option value="info">Info</option>
            <option value="success">Success</option>
            <option value="warning">Warning</option>
            <option value="error">Error</option>
          </select>
          <Chevron />
        </span>
      </label>
      <label className="title">
        <span className="caption">Title</span>
        <input
          name="title"
          required
          dir="auto"
          value={row.title}
          onChange={(event) => {
            change({ title: event.target.value });
          }}
        />
      </label>
      <label className="wide">
        <span className="caption">Message</span>
        <textarea
          ref={message}
          name="message"
          rows={1}
          dir="auto"
          value={row.message}
          onChange={(event) => {
            change({ message: event.target.value });
          }}
          onKeyDown={(event) => {
            const isChord = event.key === 'Enter' && (event.metaKey || event.ctrlKey);
            if (!isChord || event.nativeEvent.isComposing) return;
            event.preventDefault();
            event.currentTarget.form?.requestSubmit();
          }}
        />
      </label>
      <button type="submit" className="primary">
        Insert row
      </button>
      {error !== null && <Notice error={error} />}
    </form>
  );
}

function isSame(a: NewRow, b: NewRow): boolean {
  return a.type === b.type && a.title === b.title && a.message === b.message;
}

/** As high as its text, up to the style's limit. */
function fitToText(field: HTMLTextAreaElement): void {
  field.style.height = '';
  const borders = field.offsetHeight - field.clientHeight;
  const height = field.scrollHeight + borders;
  if (height > field.offsetHeight) field.style.height = `${height}px`;
}
