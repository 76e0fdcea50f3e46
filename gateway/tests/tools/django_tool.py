"""What Django thinks of a watched database.

django_tool.py DIRECTORY make | check | grow | insert, with DATABASE_URL. The application is
made in DIRECTORY.
"""

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import django
from django.conf import settings
from django.core.management import call_command

MODELS = """
from django.db import models

class Notification(models.Model):
    recipient_id = models.IntegerField(db_index=True)
    verb = models.CharField(max_length=255)
    read_at = models.DateTimeField(null=True)
    created = models.DateTimeField(auto_now_add=True)
"""

directory, command = Path(sys.argv[1]), sys.argv[2]
app = directory / "bell"
if command == "make":
    (app / "migrations").mkdir(parents=True)
    (app / "__init__.py").touch()
    (app / "migrations" / "__init__.py").touch()
    (app / "models.py").write_text(MODELS)
if command == "grow":
    (app / "models.py").write_text(MODELS + "    more = models.TextField(default='more')\n")
sys.path.insert(0, str(directory))
url = urlsplit(os.environ["DATABASE_URL"])
settings.configure(
    INSTALLED_APPS=["bell"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": url.path[1:],
            "USER": url.username,
            "PASSWORD": url.password or "",
            "HOST": url.hostname,
            "PORT": url.port,
        }
    },
)
django.setup()
match command:
    case "make" | "grow":
        call_command("makemigrations", "bell", verbosity=0)
        call_command("migrate", verbosity=0)
    case "check":
        call_command("makemigrations", "--check", "--dry-run", verbosity=0)
        call_command("migrate", "--check", verbosity=0)
        # Nothing but its own columns in what Django sees of the table.
        from io import StringIO

        seen = StringIO()
        call_command("inspectdb", "bell_notification", stdout=seen)
        assert "xact" not in seen.getvalue() and "seq" not in seen.getvalue(), seen.getvalue()
    case "insert":
        from bell.models import Notification

        Notification.objects.create(recipient_id=42, verb="liked")
