import { useInterval, useResource, useSubmit } from './hooks';
import { useSession } from './session';

interface Transcription {
  readonly id: string;
  readonly file_name: string;
  readonly status: 'running' | 'done';
}

export function Transcriptions() {
  const { request } = useSession();
  const { data, error, reload } = useResource<Transcription[]>('/api/transcriptions');
  const form = useSubmit(async (fields) => {
    await request('/api/transcriptions', {
      method: 'POST',
      body: { file_name: fields.get('file_name') },
    });
    await reload();
  });
  const isRunning = data?.some(({ status }) => status === 'running') ?? false;
  useInterval(reload, isRunning ? 1_000 : null);

  return (
    <section className="card">
      <h3>Transcripts</h3>
      <form className="row" onSubmit={form.onSubmit}>
        <label>
          File name
          <input name="file_name" placeholder="interview.mp3" required maxLength={200} />
        </label>
        <button className="primary" disabled={form.isPending}>
          Transcribe
        </button>
      </form>
      {(form.error ?? error) && <p role="alert">{form.error ?? error}</p>}
      <ul aria-label="Transcriptions">
        {data?.map(({ id, file_name, status }) => (
          <li key={id} id={`transcription-${id}`}>
            <span className="file">{file_name}</span>
            <span className="status" data-status={status}>
              {status}
            </span>
          </li>
        ))}
      </ul>
      {data?.length === 0 && <p className="muted">Nothing transcribed yet.</p>}
    </section>
  );
}
