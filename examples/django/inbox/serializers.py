from rest_framework import serializers

from .models import Notification


class NotificationSerializer(serializers.ModelSerializer):
    """What the stream says of a row as well: see `WATCH` in migrations/0002_bell.py."""

    title = serializers.CharField(source="verb")

    class Meta:
        model = Notification
        fields = ["id", "title", "link", "status", "created_at"]
        read_only_fields = fields


class IdsSerializer(serializers.Serializer):
    ids = serializers.ListField(child=serializers.IntegerField(), max_length=200)
