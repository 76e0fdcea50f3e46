from django.contrib import admin

from .models import Order
from .services import send


@admin.action(description="Send the selected orders")
def send_selected(modeladmin, request, queryset):
    for order in queryset.select_related("customer"):
        send(order)


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    list_display = ["__str__", "customer", "item", "created_at", "sent_at"]
    list_select_related = ["customer"]
    readonly_fields = ["created_at", "sent_at"]
    actions = [send_selected]
