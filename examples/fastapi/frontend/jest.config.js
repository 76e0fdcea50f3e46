export default {
  testEnvironment: './test/environment.js',
  moduleNameMapper: { '\\.css$': '<rootDir>/test/empty.js' },
  restoreMocks: true,
};
