from django.urls import path
from rest_framework.routers import SimpleRouter

from .views import NotificationViewSet, stream_token

router = SimpleRouter(trailing_slash=False)
router.register("notifications", NotificationViewSet, basename="notification")

urlpatterns = [
    path("notifications/token", stream_token, name="stream-token"),
    *router.urls,
]
