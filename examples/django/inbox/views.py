from datetime import UTC, datetime

import jwt
from django.conf import settings
from django.contrib.auth import views as auth_views
from django.db import connection, transaction
from django.db.models.functions import Now
from django.http import HttpResponse
from django.views.decorators.cache import never_cache
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.pagination import CursorPagination
from rest_framework.response import Response

from .models import Notification
from .serializers import IdsSerializer, NotificationSerializer

COOKIE = "bell"
STREAM_PATH = "/api/notifications/stream"


class NewestFirst(CursorPagination):
    ordering = ["-created_at", "-id"]
    page_size = 20
    page_size_query_param = "limit"
    max_page_size = 200


class NotificationViewSet(mixins.ListModelMixin, mixins.DestroyModelMixin, viewsets.GenericViewSet):
    serializer_class = NotificationSerializer
    pagination_class = NewestFirst
    lookup_value_regex = r"\d+"

    def get_queryset(self):
        return Notification.objects.filter(recipient=self.request.user)

    def list(self, request, *args, **kwargs):
        # Page and count as they are at one moment, or the badge is wrong until the next request.
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            response = super().list(request, *args, **kwargs)
            response.data["unread_count"] = self.get_queryset().filter(read_at=None).count()
        return response

    @action(detail=False, methods=["post"])
    def read(self, request):
        given = IdsSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        return self.mark_read(pk__in=given.validated_data["ids"])

    @action(detail=False, methods=["post"], url_path="read-all")
    def read_all(self, request):
        return self.mark_read()

    def mark_read(self, **which):
        self.get_queryset().filter(read_at=None, **which).update(read_at=Now())
        return Response(status=status.HTTP_204_NO_CONTENT)


@never_cache
def stream_token(request):
    """Turns the session into a cookie for the stream."""
    if not request.user.is_authenticated:
        return HttpResponse(status=401)
    lifetime = settings.BELL_TOKEN_LIFETIME
    now = datetime.now(UTC)
    claims = {"sub": str(request.user.pk), "aud": "bell", "iat": now, "exp": now + lifetime}
    token = jwt.encode(claims, settings.BELL_SECRET, algorithm="HS256")
    response = HttpResponse(status=204)
    response.set_cookie(
        COOKIE, token, path=STREAM_PATH, max_age=lifetime, httponly=True, samesite="Lax", secure=request.is_secure()
    )
    return response


class LogoutView(auth_views.LogoutView):
    def post(self, request, *args, **kwargs):
        response = super().post(request, *args, **kwargs)
        response.delete_cookie(COOKIE, path=STREAM_PATH, samesite="Lax")
        return response
