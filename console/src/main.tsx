import { render } from "preact";
import { App } from "./app";
import "./styles/base.css";
import "./styles/ask.css";
import "./styles/detail.css";
import "./styles/when.css";
import "./styles/pages.css";

render(<App />, document.getElementById("page")!);
