from django.db import transaction
from django.utils import timezone

from inbox.models import Notification

from .models import Order


@transaction.atomic
def send(order):
    """Marks the order as sent and tells its customer. An order that was sent before stays as it is."""
    now = timezone.now()
    if Order.objects.filter(pk=order.pk, sent_at=None).update(sent_at=now):
        Notification.objects.create(recipient=order.customer, verb=f"{order} has been sent", target=order)
