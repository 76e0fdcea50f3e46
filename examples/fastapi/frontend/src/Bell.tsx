export { PollingBell as Bell } from './PollingBell';
