"""PoolScope's way in: read the options, build the page, serve it. ``python app.py --help`` lists the options."""

import os
import signal
import sys
import tempfile
from typing import TYPE_CHECKING, Annotated

import typer

from ui.serve import serve

if TYPE_CHECKING:
    from fastapi import FastAPI


def main(
    host: Annotated[
        str, typer.Option(envvar="GRADIO_SERVER_NAME", help="Address to listen at; 0.0.0.0 for all.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="GRADIO_SERVER_PORT", min=1, max=65535, help="Port to listen at.")] = 7860,
    networks: Annotated[
        list[str] | None,
        typer.Option(help="Networks to load, by variant, set or name; give it again for more. Default: all."),
    ] = None,
    device: Annotated[str, typer.Option(help="Where the networks run: cpu, cuda, cuda:1 ...")] = "cpu",
) -> None:
    """Serve PoolScope's page: six networks that differ only in how they pool, and what each makes of your photo."""

    def build() -> "FastAPI":
        from ui.page import build_page

        return build_page(networks or [], device)

    # The server passes a signal on when it has ended; then the folder below must end too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with tempfile.TemporaryDirectory(prefix="poolscope-") as folder:
        # Gradio reads these when it is imported. Uploads lie in a folder of this process alone, and end with it.
        os.environ.setdefault("GRADIO_TEMP_DIR", folder)
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        typer.echo(f"PoolScope: http://{host}:{port}")
        try:
            serve(build, host, port)
        except (ValueError, OSError) as error:
            typer.echo(f"PoolScope cannot start: {error}", err=True)
            raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)
