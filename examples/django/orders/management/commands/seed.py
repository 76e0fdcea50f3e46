from django.contrib.auth.models import User
from django.core.management.base import BaseCommand

from orders.models import Order

PASSWORD = "bell"


class Command(BaseCommand):
    help = "Makes two customers, ada and grace, with orders, and admin, who sends them."

    def handle(self, *args, **options):
        User.objects.create_superuser("admin", password=PASSWORD)
        for name in ["ada", "grace"]:
            customer = User.objects.create_user(name, password=PASSWORD)
            for item in ["Analytical engine", "Punched cards"]:
                Order.objects.create(customer=customer, item=item)
