from django.contrib import admin
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import LoginView
from django.contrib.contenttypes.views import shortcut
from django.urls import include, path

from inbox.views import LogoutView
from orders.views import OrderDetail, OrderList

urlpatterns = [
    path("", OrderList.as_view(), name="orders"),
    path("orders/<int:pk>", OrderDetail.as_view(), name="order"),
    # Goes to get_absolute_url() of what a generic relation points to.
    path("target/<int:content_type_id>/<int:object_id>", login_required(shortcut), name="target"),
    path("login", LoginView.as_view(), name="login"),
    path("logout", LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
    path("api/", include("inbox.urls")),
]
