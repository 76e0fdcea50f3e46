"""The shop in Chromium, through nginx, on a real PostgreSQL, with the real gateway."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from shop_stack import PASSWORD, Shop, running
from stack import eventually

LIST = "/api/notifications"
STREAM = f"{LIST}/stream"
TOKEN = f"{LIST}/token"
# Tokens that live shorter than 10 s are not renewed before they end.
SHORT_LIFE = 12


@dataclass
class Customer:
    """A user with an order that has not been sent."""

    id: int
    name: str
    order: int


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with running() as shop:
        yield shop


@pytest.fixture
def new_customer(shop: Shop) -> Callable[[], Customer]:
    """Makes customers that no earlier test has used."""

    def new() -> Customer:
        name = "customer" + shop.sql("SELECT count(*) FROM auth_user")
        number = shop.sql(f"""
            INSERT INTO auth_user (username, password, first_name, last_name, email,
                                   is_superuser, is_staff, is_active, date_joined)
            SELECT '{name}', password, '', '', '', false, false, true, now()
              FROM auth_user WHERE username = 'ada'
            RETURNING id""")
        order = shop.sql(f"INSERT INTO orders_order (customer_id, item) VALUES ({number}, 'Cards') RETURNING id")
        return Customer(int(number), name, int(order))

    return new


@pytest.fixture
def customer(new_customer: Callable[[], Customer]) -> Customer:
    return new_customer()


@pytest.fixture
def log_in(shop: Shop, new_browser: Callable[..., BrowserContext]) -> Callable[[Customer], Page]:
    """Logs in with a browser of its own, and waits until its bell is connected."""

    def log_in(customer: Customer) -> Page:
        page = new_browser(base_url=shop.url).new_page()
        enter(page, "/", customer.name)
        return connected(page)

    return log_in


@pytest.fixture(scope="module")
def admin(shop: Shop, browser: Browser) -> Iterator[Page]:
    """The orders as the shop's staff see them."""
    context = browser.new_context(base_url=shop.url)
    page = context.new_page()
    enter(page, "/admin/orders/order/", "admin")
    yield page
    context.close()


@pytest.fixture
def short_tokens(shop: Shop) -> Iterator[None]:
    shop.app.stop()
    shop.app.start({"BELL_TOKEN_SECONDS": str(SHORT_LIFE)})
    yield
    shop.app.stop()
    shop.app.start()


def enter(page: Page, address: str, name: str) -> None:
    page.goto(address)
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(re.compile(f"{address}$"))


def connected(page: Page) -> Page:
    expect(page.locator(".bell")).to_have_attribute("data-status", "open")
    page.locator(".bell summary").click()
    return page


def expect_unread(page: Page, count: int) -> None:
    badge = page.locator(".bell-badge")
    if count:
        expect(badge).to_have_text(str(count))
    else:
        expect(badge).to_be_hidden()


def expect_titles(page: Page, *titles: str) -> None:
    """These notifications in this order, and no others."""
    expect(page.locator(".bell-title")).to_have_text(titles)


def send(admin: Page, order: int) -> None:
    """Sends the order as the staff do: by the action in Django's admin."""
    admin.goto("/admin/orders/order/")
    row = admin.get_by_role("row").filter(has=admin.get_by_role("link", name=f"Order {order}", exact=True))
    row.get_by_role("checkbox").check()
    admin.get_by_label("Action:").select_option("send_selected")
    admin.get_by_role("button", name="Go").click()
    expect(admin).to_have_url(re.compile("/admin/orders/order/"))


def insert(shop: Shop, customer: Customer, verb: str) -> int:
    values = f"({customer.id}, '{verb}')"
    return int(shop.sql(f"INSERT INTO inbox_notification (recipient_id, verb) VALUES {values} RETURNING id"))


def bell_cookies(page: Page) -> list[dict]:
    return [cookie for cookie in page.context.cookies() if cookie["name"] == "bell"]


def open_streams(shop: Shop) -> float:
    return shop.gateway.metrics()["sse_connections_total"]


def test_the_migrations_go_forward_and_back_and_django_sees_no_change(shop: Shop) -> None:
    name = "migrations"
    shop.sql(f"CREATE DATABASE {name} OWNER shop", "postgres")

    def manage(*arguments: str) -> str:
        return shop.manage(*arguments, DATABASE_NAME=name)

    def watched() -> str | None:
        if shop.sql("SELECT to_regnamespace('notify_gateway') IS NULL", name) == "t":
            return None
        return shop.sql("SELECT relation FROM notify_gateway.watched", name)

    def is_in_step() -> bool:
        return "No changes detected" in manage("makemigrations", "--check", "--dry-run")

    manage("migrate", "inbox", "0001")
    assert is_in_step()
    assert watched() is None

    manage("migrate")
    assert is_in_step()
    assert watched() == "inbox_notification"
    assert shop.sql("SELECT to_regclass('public.notifications') IS NULL", name) == "t"

    manage("migrate", "inbox", "0001")
    assert is_in_step()
    assert watched() is None
    triggers = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'inbox_notification'::regclass AND NOT tgisinternal"
    assert shop.sql(triggers, name) == "0"

    manage("migrate")
    assert watched() == "inbox_notification"


def test_an_order_that_is_sent_rings(shop: Shop, customer: Customer, log_in, admin: Page) -> None:
    page = log_in(customer)
    expect_unread(page, 0)
    send(admin, customer.order)
    expect_unread(page, 1)
    expect_titles(page, f"Order {customer.order} has been sent")

    page.get_by_role("link", name=f"Order {customer.order} has been sent").click()
    expect(page).to_have_url(re.compile(f"/orders/{customer.order}$"))
    expect(page.get_by_text("Sent on")).to_be_visible()
    expect_unread(page, 1)

    # The same transaction has written both rows.
    both = "SELECT o.xmin = n.xmin FROM orders_order AS o JOIN inbox_notification AS n ON n.target_id = o.id"
    assert shop.sql(f"{both} WHERE o.id = {customer.order}") == "t"


def test_an_order_is_sent_once(customer: Customer, log_in, admin: Page, shop: Shop) -> None:
    page = log_in(customer)
    send(admin, customer.order)
    send(admin, customer.order)
    insert(shop, customer, "The last one")
    expect_titles(page, "The last one", f"Order {customer.order} has been sent")


def test_a_row_typed_in_psql_rings_and_one_rolled_back_does_not(shop: Shop, customer: Customer, log_in) -> None:
    page = log_in(customer)
    shop.sql(f"""
        BEGIN;
        INSERT INTO inbox_notification (recipient_id, verb) VALUES ({customer.id}, 'Taken back');
        ROLLBACK""")
    insert(shop, customer, "Typed in psql")
    expect_unread(page, 1)
    expect_titles(page, "Typed in psql")


def test_what_is_read_in_one_browser_is_read_in_the_other(shop: Shop, customer: Customer, log_in) -> None:
    here, there = log_in(customer), log_in(customer)
    for verb in ["First", "Second", "Third"]:
        insert(shop, customer, verb)
    expect_unread(here, 3)
    expect_unread(there, 3)

    here.get_by_role("listitem").filter(has_text="Second").get_by_role("button", name="Mark as read").click()
    for page in [here, there]:
        expect_unread(page, 2)
        expect(page.locator(".bell-entry[data-status=read] .bell-title")).to_have_text(["Second"])

    there.get_by_role("button", name="Mark all as read").click()
    for page in [here, there]:
        expect_unread(page, 0)
        expect(page.locator(".bell-entry[data-status=read]")).to_have_count(3)
    unread = "SELECT count(*) FROM inbox_notification WHERE read_at IS NULL AND recipient_id = "
    eventually("read in the database", lambda: shop.sql(f"{unread}{customer.id}") == "0")


def test_what_is_deleted_leaves_the_list(shop: Shop, customer: Customer, log_in, admin: Page) -> None:
    here, there = log_in(customer), log_in(customer)
    insert(shop, customer, "To be deleted")
    send(admin, customer.order)
    sent = f"Order {customer.order} has been sent"
    for page in [here, there]:
        expect_titles(page, sent, "To be deleted")

    here.get_by_role("listitem").filter(has_text="To be deleted").get_by_role("button", name="Delete").click()
    for page in [here, there]:
        expect_titles(page, sent)
        expect_unread(page, 1)

    # The order takes its notification with it.
    admin.goto(f"/admin/orders/order/{customer.order}/delete/")
    admin.get_by_role("button", name="Yes, I’m sure").click()
    for page in [here, there]:
        expect_titles(page)
        expect_unread(page, 0)


def test_nobody_sees_what_is_told_to_another(shop: Shop, new_customer, log_in) -> None:
    first, second = new_customer(), new_customer()
    page = log_in(second)
    insert(shop, first, "For the first")
    insert(shop, second, "For the second")
    expect_unread(page, 1)
    expect_titles(page, "For the second")
    page.reload()
    expect_titles(connected(page), "For the second")


def test_the_next_user_of_a_browser_gets_a_stream_of_their_own(shop: Shop, new_customer, log_in) -> None:
    first, second = new_customer(), new_customer()
    page = log_in(first)
    # The session ends, but not by LogoutView: the cookie of the stream is still there.
    page.context.clear_cookies(name="sessionid")
    assert bell_cookies(page)
    enter(page, "/", second.name)
    connected(page)
    insert(shop, first, "For the first")
    insert(shop, second, "For the second")
    expect_titles(page, "For the second")


def test_the_api_changes_only_rows_of_the_user_and_only_for_the_page(shop: Shop, new_customer, log_in) -> None:
    first, second = new_customer(), new_customer()
    page = log_in(second)
    foreign, own = insert(shop, first, "For the first"), insert(shop, second, "For the second")
    request = page.context.request
    csrf = {"X-CSRFToken": page.locator("[name=csrfmiddlewaretoken]").input_value()}

    assert request.delete(f"{LIST}/{foreign}", headers=csrf).status == 404
    assert request.post(f"{LIST}/read", headers=csrf, data={"ids": [foreign, own]}).status == 204
    assert shop.sql(f"SELECT id FROM inbox_notification WHERE id IN ({foreign}, {own}) AND read_at IS NOT NULL") == str(
        own
    )
    # A page of another site does not know the token.
    assert request.post(f"{LIST}/read-all").status == 403


def test_the_list_has_pages(shop: Shop, customer: Customer, log_in) -> None:
    request = log_in(customer).context.request
    ids = [insert(shop, customer, f"Number {number}") for number in range(5)]
    seen, address = [], f"{LIST}?limit=2"
    while address:
        page = request.get(address).json()
        assert page["unread_count"] == 5
        seen.append([row["id"] for row in page["results"]])
        address = page["next"]
    assert seen == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]


def test_the_list_and_the_stream_say_the_same(shop: Shop, customer: Customer, log_in, admin: Page) -> None:
    page = log_in(customer)
    page.evaluate(
        """(address) => new Promise((resolve) => {
          window.said = { notification: [], updated: [] };
          const stream = new EventSource(address);
          stream.addEventListener('connected', resolve);
          for (const name of Object.keys(said)) {
            stream.addEventListener(name, ({ data }) => said[name].unshift(JSON.parse(data)));
          }
        })""",
        STREAM,
    )

    def told(name: str, count: int) -> list[dict]:
        page.wait_for_function("([name, count]) => said[name].length >= count", arg=[name, count])
        return page.evaluate("(name) => said[name]", name)

    def listed() -> list[dict]:
        return page.context.request.get(LIST).json()["results"]

    insert(shop, customer, 'Quotes " and \\ and <b>, ä and 🔔')
    send(admin, customer.order)
    rows = listed()
    assert [row["status"] for row in rows] == ["unread", "unread"]
    assert rows[0]["link"] is not None and rows[1]["link"] is None
    assert told("notification", 2) == rows

    page.get_by_role("button", name="Mark all as read").click()
    updated = sorted(told("updated", 2), key=lambda row: -row["id"])
    assert [row["status"] for row in updated] == ["read", "read"]
    assert updated == listed()


def test_a_logout_takes_the_cookie_away_and_ends_the_stream(shop: Shop, customer: Customer, log_in) -> None:
    eventually("the streams of earlier tests end", lambda: open_streams(shop) == 0)
    page = log_in(customer)
    assert open_streams(shop) == 1
    [cookie] = bell_cookies(page)
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Lax", STREAM)

    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(re.compile("/login$"))
    assert bell_cookies(page) == []
    eventually("the stream ends", lambda: open_streams(shop) == 0)
    assert page.context.request.get(TOKEN).status == 401
    assert page.context.request.get(STREAM).status == 401


def test_the_token_is_renewed_and_another_tab_notices_the_logout(
    shop: Shop, customer: Customer, log_in, short_tokens
) -> None:
    page = log_in(customer)
    first = bell_cookies(page)
    with page.expect_response(re.compile(STREAM), timeout=SHORT_LIFE * 2000) as renewed:
        pass
    assert renewed.value.status == 200
    assert bell_cookies(page) != first
    insert(shop, customer, "Behind the renewal")
    expect_unread(page, 1)

    other = page.context.new_page()
    other.goto("/")
    expect_unread(connected(other), 1)
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(re.compile("/login$"))
    expect(other).to_have_url(re.compile("/login$"), timeout=SHORT_LIFE * 2000)
