"""Redis Streams, the doorbell: "job 17, dispatch 3, go".

Whatever is in here may vanish or be repeated at any instant. A lost entry is rung again by the leader, a doubled or late one
claims nothing, because a claim names its dispatch. So no entry is ever trusted, and none outlives the decision on its claim:
there is no visibility timeout.
"""
