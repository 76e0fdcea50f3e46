exports.NotificationProvider = require('@notify-gateway/client/react').NotificationProvider;
