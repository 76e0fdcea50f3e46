from pathlib import Path

from django.db import migrations

# What `notify-gateway schema --no-table` prints.
SCHEMA = Path(__file__).with_suffix(".sql").read_text()

# The names and values of inbox.serializers.NotificationSerializer.
WATCH = """
SELECT notify_gateway.watch('inbox_notification', user_id => 'recipient_id', data => $${
  "id": "id", "title": "verb",
  "link": "'/target/' || target_type_id || '/' || target_id",
  "status": "CASE WHEN read_at IS NULL THEN 'unread' ELSE 'read' END",
  "created_at": "created_at"}$$)
"""


class Migration(migrations.Migration):
    dependencies = [("inbox", "0001_initial")]
    operations = [
        migrations.RunSQL([SCHEMA, WATCH], reverse_sql="SELECT notify_gateway.uninstall()"),
    ]
