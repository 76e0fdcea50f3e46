import { useFlag } from './flags';
import { LiveBell } from './LiveBell';
import { PollingBell } from './PollingBell';

export function Bell() {
  return useFlag('enable_sse_notifications') ? <LiveBell /> : <PollingBell />;
}
