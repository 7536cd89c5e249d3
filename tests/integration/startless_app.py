"""An app whose start fails."""

from taskd import App

app = App()


@app.on_start
def start() -> None:
    raise RuntimeError("no pool")
