from django.conf import settings
from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.db.models.functions import Now
from django.urls import reverse


class Notification(models.Model):
    recipient = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="notifications")
    verb = models.CharField(max_length=200)
    target_type = models.ForeignKey(ContentType, models.CASCADE, null=True, blank=True)
    target_id = models.PositiveBigIntegerField(null=True, blank=True)
    target = GenericForeignKey("target_type", "target_id")
    read_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(fields=["recipient", "-created_at", "-id"], name="inbox_newest"),
            models.Index(fields=["target_type", "target_id"], name="inbox_target"),
        ]

    def __str__(self):
        return self.verb

    @property
    def status(self):
        return "unread" if self.read_at is None else "read"

    @property
    def link(self):
        if self.target_id is None:
            return None
        return reverse("target", args=[self.target_type_id, self.target_id])
