import { useResource, useSubmit } from './hooks';
import { useSession } from './session';

interface Comment {
  readonly id: string;
  readonly author: string;
  readonly body: string;
  readonly created_at: string;
}

const time = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' });

export function Comments() {
  const { request } = useSession();
  const { data, error, reload } = useResource<Comment[]>('/api/comments');
  const form = useSubmit(async (fields) => {
    await request('/api/comments', { method: 'POST', body: { body: fields.get('body') } });
    await reload();
  });

  return (
    <section className="card">
      <h3>Discussion</h3>
      <form className="row" onSubmit={form.onSubmit}>
        <label>
          Comment
          <input name="body" placeholder="@grace, have a look" required maxLength={2000} />
        </label>
        <button className="primary" disabled={form.isPending}>
          Send
        </button>
      </form>
      {(form.error ?? error) && <p role="alert">{form.error ?? error}</p>}
      <ul aria-label="Comments">
        {data?.map(({ id, author, body, created_at }) => (
          <li key={id} id={`comment-${id}`} className="comment">
            <strong>{author}</strong>
            <time className="muted" dateTime={created_at}>
              {time.format(new Date(created_at))}
            </time>
            <p>
              <Mentions text={body} />
            </p>
          </li>
        ))}
      </ul>
      {data?.length === 0 && <p className="muted">No comments yet.</p>}
    </section>
  );
}

function Mentions({ text }: { readonly text: string }) {
  return text
    .split(/(@\w+)/)
    .map((part, index) => (part.startsWith('@') ? <mark key={index}>{part}</mark> : part));
}
