import { type ReactElement, useEffect, useRef, useState } from 'react';
import type { User } from './user.js';

/** What the same looks like from a terminal. */
export function Terminal({ user }: { readonly user: User }): ReactElement {
  return (
    <div className="terminal">
      <h3>From a terminal</h3>
      <Line
        what="Read along"
        name={`curl line that reads the stream of ${user.name}`}
        command={user.curl}
      />
      <Line
        what="Write a row"
        name={`psql line that inserts a row for ${user.name}`}
        command={user.psql}
      />
    </div>
  );
}

function Line(props: {
  readonly what: string;
  readonly name: string;
  readonly command: string;
}): ReactElement {
  const code = useRef<HTMLElement>(null);
  const [said, setSaid] = useState('');
  useEffect(() => {
    if (said === '') return;
    const timer = setTimeout(() => {
      setSaid('');
    }, 1600);
    return () => {
      clearTimeout(timer);
    };
  }, [said]);
  const copy = async (): Promise<void> => {
    if (!code.current) return;
    setSaid((await copyText(code.current)) ? 'Copied' : 'Selected');
  };
  return (
    <div className="line">
      <span className="what">{props.what}</span>
      <pre>
        <code ref={code} tabIndex={0} role="group" aria-label={props.name}>
          {props.command}
        </code>
      </pre>
      <button
        type="button"
        className="plain"
        aria-label={`Copy the ${props.name}`}
        onClick={() => void copy()}
      >
        {said || 'Copy'}
      </button>
      <span className="sr-only" role="status">
        {said === 'Selected' ? 'Selected: copy it with the keyboard' : said}
      </span>
    </div>
  );
}

async function copyText(code: HTMLElement): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(code.textContent);
    return true;
  } catch {
    // No clipboard outside a secure context (a machine's address over HTTP).
    getSelection()?.selectAllChildren(code);
    // eslint-disable-next-line @typescript-eslint/no-deprecated -- there is no other way there
    return document.execCommand('copy');
  }
}
