"""What a person does on our pages to train: fill in the form of an endpoint, upload, look at the plan, send."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

UPLOADED = "[data-sent]:has-text('uploaded')"


def fill(page, body, within="[data-train]"):
    """Fill in the fields that a request names; its files are uploaded, and nothing of it is a link any more."""
    box = page.locator(within)
    for name, value in body.items():
        field = box.locator(f"[data-field='{name}']").first
        if isinstance(value, list):
            for number, item in enumerate(value):
                field.locator("[data-add]").click()
                fill(page, item, f"[data-field='{name}'] [data-item] >> nth={number}")
        elif str(value).startswith("file:"):
            field.locator("[data-files]").first.set_input_files(Path(unquote(urlsplit(value).path)))
            field.locator(UPLOADED).wait_for()
        else:
            put(page, field, value)


def put(page, field, value):
    """Put one value into one field, by whatever it offers."""
    for closed in field.locator("xpath=ancestor::details[not(@open)]").all():
        closed.locator("summary").first.click()
    control = field.locator("[data-value]").first
    kind = control.evaluate("each => each.type || each.tagName")
    if kind == "radio":
        field.locator(f"label:has-text('{value}')").first.click()
    elif kind == "checkbox":
        control.set_checked(value)
    elif kind == "select-one":
        control.select_option(label=str(value))
    else:
        control.fill(str(value))


def see_plan(page):
    """Ask for the plan; all that it says."""
    page.get_by_role("button", name="Show the plan").click()
    page.locator("[data-plan-shown]:not([hidden]), [data-alert]:not(:empty)").first.wait_for()
    return page.locator("[data-plan-shown]").inner_text()


def train(page):
    """Press the button with the price; the id of the request."""
    page.get_by_role("button", name="Train for").click()
    page.wait_for_url("**/history/*")
    return page.url.rpartition("/")[2]
