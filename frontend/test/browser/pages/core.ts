import { createNotificationClient, oneStreamPerBrowser } from '../../../src/index.js';
import { become, options, probe, watch } from './setup.js';

const { user, ...rest } = await options();
const client = createNotificationClient({
  ...rest,
  share: user === undefined ? undefined : oneStreamPerBrowser(user),
});
watch(client);
probe.become = (next) => {
  become(next);
  client.reset();
};
client.start();
