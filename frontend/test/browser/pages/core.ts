import { createNotificationClient, oneStreamPerBrowser } from '../../../src/index.js';
import { options, watch } from './setup.js';

const { user, ...rest } = await options();
const client = createNotificationClient({
  ...rest,
  share: user === undefined ? undefined : oneStreamPerBrowser(user),
});
watch(client);
client.start();
