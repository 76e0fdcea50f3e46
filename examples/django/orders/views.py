from django.contrib.auth.mixins import LoginRequiredMixin
from django.views.generic import DetailView, ListView

from .models import Order


class OwnOrders(LoginRequiredMixin):
    def get_queryset(self):
        return Order.objects.filter(customer=self.request.user)


class OrderList(OwnOrders, ListView):
    pass


class OrderDetail(OwnOrders, DetailView):
    pass
