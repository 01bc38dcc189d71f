# The page as a container for CPUs: docker build -t poolscope . && docker run -p 7860:7860 poolscope
FROM python:3.11-slim

# PyPI's torch brings some GB of CUDA libraries. For a slim image, let pip see PyTorch's index of CPU wheels as well:
# docker build --build-arg PIP_EXTRA_INDEX_URL=<address of that index> -t poolscope .
# Its 2.11.0+cpu satisfies the same pin and wins over PyPI's 2.11.0.
ARG PIP_EXTRA_INDEX_URL

RUN useradd --create-home --uid 1000 user \
    && install --directory --owner=user --group=user /home/user/app /home/user/uploads
WORKDIR /home/user/app

COPY requirements.txt ./
RUN pip install --no-cache-dir -r requirements.txt

COPY --chown=user:user app.py ./
COPY --chown=user:user poolcore ./poolcore
COPY --chown=user:user models ./models
COPY --chown=user:user ui ./ui
COPY --chown=user:user assets ./assets
COPY --chown=user:user benchmarks/results/seeds ./benchmarks/results/seeds
RUN python -m compileall -q app.py poolcore models ui

USER user
ENV HOME=/home/user \
    GRADIO_TEMP_DIR=/home/user/uploads \
    GRADIO_ANALYTICS_ENABLED=False \
    PYTHONUNBUFFERED=1
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/health', timeout=4)"]
CMD ["python", "app.py", "--host", "0.0.0.0", "--port", "7860"]
