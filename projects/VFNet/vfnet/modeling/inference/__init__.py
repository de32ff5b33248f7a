"""From predictions to detections: candidates, suppression, several views of an image."""
