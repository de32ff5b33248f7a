"""A page in the browser that detects in uploaded pictures: what `demo/app.py` shows.

page.py, the only file that imports Gradio, which is the extra `web`, lays it out.
"""
